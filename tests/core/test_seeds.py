"""Every draw has a key of its own, and nothing else is disturbed."""

from __future__ import annotations

import collections

import pytest
import torch

from convattn.core.errors import ArgumentError
from convattn.core.seeds import check_seed, derive, draw_from, permutation, seeded


def test_streams_are_distinct() -> None:
    """All keys that a run uses, for several seeds: no two give the same stream."""
    keys = [
        derive(seed, *stream)
        for seed in range(10)
        for stream in [
            (),
            ("weights",),
            *(("order", epoch) for epoch in range(20)),
            *(("augment", epoch, index) for epoch in range(5) for index in range(50)),
            *(("step", step, piece, rank) for step in range(30)
              for piece in (0, 1) for rank in (0, 1)),
        ]
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**63 for key in keys)
    # digits of neighbours do not run into each other
    assert derive(1, "augment", 1, 23) != derive(1, "augment", 12, 3)
    assert derive(1, "x") != derive(11, "x")


def test_a_key_gives_the_same_seed_in_every_version() -> None:
    """`printf 0/order/1 | b2sum -l 64`, halved to fit a signed integer."""
    assert derive(0, "order", 1) == 0x5234FF2E7DFBB7DE >> 1


def test_streams_draw_independently() -> None:
    """Neighbouring seeds give uncorrelated draws."""
    draws = []
    for index in range(50):
        with seeded(derive(3, "augment", 0, index)):
            draws.append(torch.randn(1000))
    correlations = torch.corrcoef(torch.stack(draws)) - torch.eye(50)
    assert correlations.abs().max() < 0.15  # five deviations of 1 / sqrt(1000)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_a_permutation_holds_each_index_once(count: int) -> None:
    order = permutation(count, 5)
    assert sorted(order) == list(range(count))
    assert permutation(count, 5) == order
    if count > 5:
        assert permutation(count, 6) != order
        assert order != sorted(order)


def test_permutations_are_uniform() -> None:
    """All 24 orders, each about 100 times in 2,400; chi-square under its 0.9999 quantile."""
    counts = collections.Counter(tuple(permutation(4, derive(0, seed))) for seed in range(2400))
    assert len(counts) == 24
    assert sum((n - 100) ** 2 / 100 for n in counts.values()) < 58.6


def test_seeded_restores_the_generator() -> None:
    torch.manual_seed(1)
    torch.rand(3)
    before = torch.get_rng_state()
    with seeded(7):
        first = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)

    def fails() -> None:
        with seeded(7):
            assert torch.equal(torch.rand(4), first)
            with seeded(8):
                assert not torch.equal(torch.rand(4), first)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert torch.equal(torch.get_rng_state(), before)


def test_draw_from_is_manual_seed() -> None:
    torch.manual_seed(2**62 + 11)
    expected = torch.rand(5), torch.randn(5), torch.randperm(9)
    torch.rand(7)
    draw_from(2**62 + 11)
    found = torch.rand(5), torch.randn(5), torch.randperm(9)
    assert all(map(torch.equal, expected, found))


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_seeds_in_range_are_taken(seed: int) -> None:
    assert check_seed(seed) == seed
    with seeded(derive(seed, "x")):
        torch.rand(1)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 1.0, "1", None, True])
def test_other_seeds_are_refused_by_value(seed: object) -> None:
    with pytest.raises(ArgumentError, match=r"0\.\.2\*\*63-1") as caught:
        check_seed(seed)
    assert repr(seed) in str(caught.value)
    with pytest.raises(ArgumentError):
        derive(seed, "x")  # type: ignore[arg-type]
