"""`sensitivity` finds a place that was planted, and says so where there is none."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from convattn import create_model, plan, sensitivity
from convattn.core.errors import ArgumentError, InputError, UnknownNameError

CLASSES = 4
Batch = tuple[Tensor, Tensor]


class Branch(nn.Module):
    """Sums the pairs of channels of a map: what clutters one of a pair is then in the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.join = nn.Identity()
        self.mix = nn.Conv2d(2 * CLASSES, CLASSES, 1, bias=False)
        eye = torch.eye(CLASSES)
        self.mix.weight = nn.Parameter(torch.cat((eye, eye), 1)[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.join(x)).mean((2, 3))


class Planted(nn.Module):
    """Three branches. The signal and the clutter pass through those that are planted, side by
    side; through the others pass constants. So a channel gate helps in front of a planted sum,
    and nowhere else.
    """

    def __init__(self, *planted: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Branch() for _ in range(3))
        self.planted = planted

    def forward(self, x: Tensor) -> Tensor:
        ones = torch.full_like(x, 0.1)
        maps = (x if i in self.planted else ones for i in range(3))
        return 3 * sum(branch(x) for branch, x in zip(self.branches, maps, strict=True))


def scenes(batches: int = 9, *, informed: bool = True) -> list[Batch]:
    """Maps with a class each, whose channel is brighter. Channels 4 to 7 hold clutter."""
    draw = torch.Generator().manual_seed(5)
    found = []
    for _ in range(batches):
        targets = torch.randint(CLASSES, (16,), generator=draw)
        signal = 0.5 * torch.rand(16, CLASSES, 5, 5, generator=draw)
        if informed:
            signal[torch.arange(16), targets] += 1
        clutter = 2 * torch.rand(16, CLASSES, 1, 1, generator=draw).expand_as(signal)
        found.append((torch.cat((signal, clutter), 1), targets))
    return found


def search(host: nn.Module, data: list[Batch], block: str = "se", **options: object) -> object:
    arguments = {"se": {"reduction": 2}, "ca": {"min_hidden": 4}}[block]
    return sensitivity(host, data, block, at="branches.*.join", by="place", **arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("block", ["se", "ca"])
@pytest.mark.parametrize("planted", [0, 2])
def test_a_planted_place_is_found(planted: int, block: str) -> None:
    found = search(Planted(planted), scenes(), block, steps=40)
    assert found.best == f"branches.{planted}.join"
    assert found.candidates[0].name == found.best
    assert max(found.candidates, key=lambda c: c.score).name == found.best, "by the proxy alone"
    assert f"branches.{planted}.join helps most" in str(found)


def test_two_equal_places_are_not_told_apart() -> None:
    found = search(Planted(0, 1), scenes(), steps=40)
    assert set(found.contenders) == {"branches.0.join", "branches.1.join"}
    assert found.best is None
    assert "cannot be told apart" in str(found)


def test_where_nothing_can_be_learned_nothing_helps() -> None:
    found = search(Planted(0), scenes(informed=False), steps=10, lr=1e-4, top=1)
    assert found.best is None


def test_the_model_and_the_random_state_stay() -> None:
    model = Planted(1).train()
    model.branches[0].eval()
    before = copy.deepcopy(model.state_dict())

    def facts() -> list[object]:
        return [(m.training, list(m._forward_hooks), list(m._modules)) for m in model.modules()]

    expected = facts()
    flags = [p.requires_grad for p in model.parameters()]
    state = torch.get_rng_state()
    first = search(model, scenes(), steps=3, top=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert facts() == expected
    assert flags == [p.requires_grad for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    second = search(model, iter(scenes()), steps=3, top=2)
    numbers = lambda s: [(c.name, c.proxy, c.gains) for c in s.candidates]  # noqa: E731
    assert numbers(first) == numbers(second)
    assert [len(c.gains) for c in first.candidates] == [3, 3, 0]


@pytest.mark.long
def test_all_positions_with_their_costs() -> None:
    model = create_model("mobilenet_v2", width_mult=0.1, num_classes=3)
    data = [(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])) for _ in range(2)]
    found = sensitivity(model, data, "eca", top=0, seeds=(4,))
    assert {"after_depthwise", "before_add", "stage_end"} <= {c.name for c in found.candidates}
    for c in found.candidates:
        table = plan(model, "eca", c.name, input_size=(1, 3, 32, 32))
        assert (len(c.paths), c.parameters, c.macs) == (len(table), table.parameters, table.macs)
        assert f"{c.macs:,}" in str(found)
    assert found.best is None
    assert "top=0" in found.verdict
    stages = sensitivity(model, data, "eca", at="after_add", by="stage", top=0, seeds=(4,))
    table = plan(model, "eca", "after_add", input_size=(1, 3, 32, 32))
    assert {c.name for c in stages.candidates} == {
        f"after_add in stage {row.place.stage}" for row in table
    }
    assert sum(len(c.paths) for c in stages.candidates) == len(table)


def test_training_all_is_compared_with_a_host_trained_alike() -> None:
    """Blocks that do nothing gain nothing, however much the host learns."""
    host = Planted(0)
    nn.init.normal_(host.branches[0].mix.weight)
    found = search(host, scenes(), train="all", steps=20, lr=0.05, top=3)
    idle = [c for c in found.candidates if c.name != "branches.0.join"]
    assert found.candidates[0].gain > 5 * max(abs(c.gain) for c in idle)


@pytest.mark.parametrize(
    ("error", "text", "data", "arguments"),
    [
        (InputError, "two are needed", scenes(1), {}),
        (InputError, "got Tensor", [torch.zeros(2, 3, 4, 4)] * 2, {}),
        (ArgumentError, "seeds must differ", scenes(2), {"seeds": (1, 1)}),
        (ArgumentError, "one of 'position'", scenes(2), {"by": "layer"}),
        (UnknownNameError, "matches nothing", scenes(2), {"at": "nowhere"}),
        (UnknownNameError, "no block named", scenes(2), {"block": "see"}),
        (ArgumentError, "cannot start as the identity", scenes(2), {"block": "simam"}),
        (ArgumentError, "no argument 'reducton'", scenes(2), {"reducton": 2}),
        (ArgumentError, "stands in for a convolution", scenes(2), {"block": "scconv"}),
    ],
)  # fmt: skip
def test_refusals(error: type, text: str, data: list, arguments: dict) -> None:
    arguments = {"at": "branches.0.join", **arguments}
    with pytest.raises(error, match=text):
        sensitivity(Planted(0), data, arguments.pop("block", "eca"), **arguments)
