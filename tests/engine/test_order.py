"""Which sample is seen when: once per epoch, each by one process, in another order each epoch."""

from __future__ import annotations

import itertools
from math import ceil

import pytest

from convattn.engine.order import Order

SIZES = [(22, 4), (20, 4), (3, 4), (1, 1), (7, 7), (13, 5), (9, 8)]


@pytest.mark.parametrize(("size", "batch"), SIZES)
def test_each_sample_once_per_epoch(size: int, batch: int) -> None:
    order = Order(size, batch, seed=3)
    assert order.steps_per_epoch == ceil(size / batch)
    for epoch in range(3):
        first = epoch * order.steps_per_epoch
        steps = [order.step(first + i) for i in range(order.steps_per_epoch)]
        keys = [key for step in steps for key in step]
        assert sorted(keys) == [(epoch, i) for i in range(size)]
        assert [len(step) for step in steps[:-1]] == [batch] * (len(steps) - 1)
        assert len(steps[-1]) == size - batch * (len(steps) - 1)  # the ragged rest, never empty


@pytest.mark.parametrize(("size", "batch"), SIZES)
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_pieces_of_all_processes_partition_each_batch(
    size: int, batch: int, world: int, accumulate: int
) -> None:
    ranks = [Order(size, batch, accumulate, 5, rank, world) for rank in range(world)]
    for step in range(2 * ranks[0].steps_per_epoch):
        whole = ranks[0].step(step)
        assert all(rank.step(step) == whole for rank in ranks)
        seen = []
        for rank in ranks:
            pieces = rank.pieces(step)
            assert 1 <= len(pieces) <= accumulate
            assert all(pieces)
            if rank.idle(step):  # there to exchange gradients, with a sample that does not count
                assert len(whole) < world
                assert [len(piece) for piece in pieces] == [1]
                continue
            seen += [key for piece in pieces for key in piece]
        assert sorted(seen) == sorted(whole)
        shares = [len(whole[rank::world]) for rank in range(world)]
        assert max(shares) - min(shares) <= 1


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        order = Order(50, 8, seed=seed)
        steps = range(number * order.steps_per_epoch, (number + 1) * order.steps_per_epoch)
        return [index for step in steps for _, index in order.step(step)]

    orders = [epoch(seed, number) for seed in range(4) for number in range(4)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    assert epoch(2, 3) == orders[2 * 4 + 3]
    assert all(order != sorted(order) for order in orders)


def test_a_batch_does_not_depend_on_pieces_or_processes() -> None:
    whole = [Order(22, 4, seed=1).step(step) for step in range(12)]
    for accumulate, rank, world in [(4, 0, 1), (1, 1, 2), (3, 2, 3)]:
        other = Order(22, 4, accumulate, 1, rank, world)
        assert [other.step(step) for step in range(12)] == whole


@pytest.mark.parametrize("first", [0, 1, 5, 6, 11])
def test_resumed_pieces_continue_where_the_first_part_ended(first: int) -> None:
    order = Order(22, 4, accumulate=3, seed=2, rank=1, world=2)
    whole = list(order.from_step(0, 12))
    before = sum(len(order.pieces(step)) for step in range(first))
    assert list(order.from_step(first, 12)) == whole[before:]
