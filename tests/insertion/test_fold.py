"""`fold`: the gates become plain, and no digit of the output moves."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator

import pytest
import torch
from insertion_hosts import build
from torch import Tensor, nn

from convattn import create_block, find, fold, insert, list_blocks, rebuild, remove
from convattn.blocks._base import GateBlock
from convattn.core.errors import ArgumentError
from convattn.insertion import insertions

BATCH = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
SIZE = (1, 3, 64, 64)


class Residual(nn.Module):
    """What its norm returns is added to a map that no weight can scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 128, 3, 4, 1)
        self.conv = nn.Conv2d(128, 128, 3, 1, 1, groups=16)
        self.norm = nn.BatchNorm2d(128)
        self.head = nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.stem(x))
        return self.head(torch.relu(self.norm(self.conv(x)) + x).mean((2, 3)))


def row(width: int = 128) -> nn.Sequential:
    """No shortcut: a block behind "1" stands between a SiLU and a convolution."""
    return nn.Sequential(nn.Conv2d(3, width, 3, 4), nn.SiLU(), nn.Conv2d(width, 4, 1)).eval()


def learned(model: nn.Module, block: str, at: object, **arguments: object) -> nn.Module:
    """With blocks that started as the identity and moved from there."""
    torch.manual_seed(3)
    insert(model, block, at=at, input_size=SIZE, **arguments)  # type: ignore[arg-type]
    with torch.no_grad():
        for found in find(model):
            for parameter in model.get_submodule(found.path).parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def run(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(BATCH)


@pytest.mark.parametrize(
    ("host", "at"),
    [
        ("resnet18", "before_add"),  # a shortcut is added: the weights before the block move
        ("resnet18", "after_add"),  # so do those of the stage
        ("timm/resnet18", "after_conv2"),
        ("mobilenet_v2", "after_depthwise"),  # behind ReLU6: the next convolution moves
        ("mobilenet_v3_large", "after_depthwise"),
        ("efficientnet_b0", "before_project"),
        ("efficientnet_b0", "after_depthwise"),  # through the host's own SE
        ("shufflenet_v2", "after_depthwise"),  # through concatenation and shuffle
        ("regnet_y_400mf", "before_add"),
        ("densenet121", "stage_end"),
        ("timm/convnext_atto", "before_add"),  # layer scale, channels last
        ("ours/mobilenet_v2", "after_expand"),
        ("plain", ["shared", "merge"]),  # a module called twice
        ("sequential", "stage_end"),
    ],
)
def test_hosts(host: str, at: object) -> None:
    model = learned(build(host), "ca", at)
    expected = run(model)
    assert {f.gate_scale for f in find(model)} == {2.0}
    assert fold(model, strict=True, input_size=SIZE) is model
    assert {f.gate_scale for f in find(model)} == {1.0}
    assert torch.equal(run(model), expected)
    state = copy.deepcopy(model.state_dict())
    fold(model)  # nothing is left to do
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def _gates() -> Iterator[str]:
    for name in list_blocks():
        block = create_block(name, 128)
        if isinstance(block, GateBlock) and block.can_start_as_identity():
            block.start_as_identity()
            if block.gate_scale != 1:
                yield name


# What reads the map in these is not linear in it: an epsilon is added, or its sign is asked for.
# Where a sum follows, their factor has no place to go.
NOT_LINEAR = {"ema", "scse", "sge", "srm"}


@pytest.mark.parametrize("block", [*_gates()])
@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
def test_blocks(block: str, before: bool) -> None:
    torch.manual_seed(0)
    model = learned(Residual().eval(), block, "norm") if before else learned(row(), block, "1")
    expected = run(model)
    fold(model, input_size=SIZE)
    stays = before and block in NOT_LINEAR
    assert [f.gate_scale for f in find(model)] == [2.0 if stays else 1.0]
    if block == "bam":  # its factor is 2/3
        torch.testing.assert_close(run(model), expected, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(run(model), expected)


def changed(model: nn.Module, before: dict[str, Tensor]) -> dict[str, float]:
    """Names of tensors that are other than before, and by what factor."""
    pairs = {name: (value, before[name]) for name, value in model.state_dict().items()}
    return {
        name: float((new / old).mean())
        for name, (new, old) in pairs.items()
        if not torch.equal(new, old)
    }


def test_what_moves() -> None:
    """y = W (2 s(z) x) = (2W) (s(z) x); before a sum (2s(z)) x = s(z) (2x), z made from half 2x."""
    model = learned(row(), "se", "1")
    before = copy.deepcopy(model.state_dict())
    assert changed(fold(model), before) == {"2.weight": 2.0}
    model = learned(row(), "ca", "1")  # two gates
    before = copy.deepcopy(model.state_dict())
    assert changed(fold(model), before) == {"2.weight": 4.0}
    torch.manual_seed(0)
    model = learned(Residual().eval(), "se", "norm")
    before = copy.deepcopy(model.state_dict())
    moved = {"norm.weight": 2.0, "norm.attention.fc1.weight": 0.5}  # the norm's bias is 0
    assert changed(fold(model, input_size=SIZE), before) == moved


def test_the_state_fits_blocks_that_never_were_the_identity() -> None:
    model = learned(build("mobilenet_v2"), "ca", "after_depthwise")
    expected = run(model)
    fold(model)
    plain = insert(build("mobilenet_v2"), "ca", at="after_depthwise", init="authors")
    plain.load_state_dict(model.state_dict())
    assert torch.equal(run(plain), expected)
    again = rebuild(build("mobilenet_v2"), json.loads(json.dumps(insertions(model))))
    again.load_state_dict(model.state_dict())
    assert torch.equal(run(again), expected)
    assert insertions(again) == insertions(model)


def test_the_exported_graph_has_no_constant_left() -> None:
    def constants(model: nn.Module) -> int:
        graph = torch.export.export(model, (BATCH,)).graph
        products = [n for n in graph.nodes if n.target is torch.ops.aten.mul.Tensor]
        return sum(not isinstance(n.args[1], torch.fx.Node) for n in products)

    model = learned(build("resnet18"), "ca", "before_add")
    assert constants(model) == 16
    assert constants(fold(model)) == 0


def test_a_network_built_with_its_blocks() -> None:
    from convattn import create_model

    facts = {"attention": "se", "width_mult": 0.25, "num_classes": 3}
    model = create_model("mobilenet_v2", attention_init="identity", **facts).eval()
    expected = run(model)
    fold(model)
    assert torch.equal(run(model), expected)
    plain = create_model("mobilenet_v2", **facts).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(run(plain), expected)


def _tied() -> nn.Module:
    """Both convolutions have one weight: it cannot be doubled for one of them."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.SiLU(), nn.Conv2d(3, 3, 1), nn.SiLU())
    model[2].weight = model[0].weight
    return nn.Sequential(*model, nn.Conv2d(3, 2, 1))


class _Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.std()
        return self._conv_forward(x, weight, self.bias)


class _Negative(nn.Module):
    """The block's map is read by a convolution and, in the host's code, by a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Conv2d(3, 8, 1), nn.SiLU()), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(x) * x.sigmoid().mean()


@pytest.mark.parametrize(
    ("host", "at", "reason"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.SiLU()), "1", "network returns"),
        (_tied, "1", "0.weight"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.SiLU(), _Standardised(8, 4, 1)), "1", ""),
        (_Negative, "body", "sigmoid"),
        (lambda: nn.Sequential(nn.SiLU(), nn.GroupNorm(1, 3), nn.Conv2d(3, 4, 1)), "0", "epsilon"),
    ],
)
def test_where_it_cannot_go(host: Callable[[], nn.Module], at: str, reason: str) -> None:
    torch.manual_seed(0)
    model = learned(host().eval(), "eca", at)
    expected, before = run(model), copy.deepcopy(model.state_dict())
    with pytest.raises(ArgumentError, match=rf"1 of 1 blocks.*attention.*{reason}.*strict=False"):
        fold(model, strict=True)
    fold(model)
    assert [f.gate_scale for f in find(model)] == [2.0]
    assert changed(model, before) == {}
    assert torch.equal(run(model), expected)


def test_a_folded_host_is_another() -> None:
    model = fold(learned(build("sequential"), "se", "stage_end", reduction=4))
    with pytest.raises(ArgumentError, match="before folding"):
        remove(model)


class Counts(nn.Module):
    """Its run depends on values, as a detector's on boxes: the trial run ends at `int`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 1), nn.SiLU(), nn.Conv2d(8, 8, 1), nn.SiLU())
        self.early, self.late = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        count = int((self.early(x) > 0).sum())
        return self.late(x) + (count > 0) * x.sigmoid().mean()


@pytest.mark.parametrize(("at", "scale"), [("body.1", 1.0), ("body.3", 2.0)])
def test_what_happens_behind_the_trial_run_is_not_guessed(at: str, scale: float) -> None:
    torch.manual_seed(0)
    model = learned(Counts().eval(), "eca", at)
    expected = run(model)
    fold(model)
    assert [f.gate_scale for f in find(model)] == [scale]
    assert torch.equal(run(model), expected)
