"""The tools' conventions equal the tools: their rules as layer hooks here, fvcore itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convattn import create_block, create_model
from convattn.cli.parser import CONVENTIONS as SPOKEN
from convattn.cost import CONVENTIONS, cost

SIZE = (1, 3, 96, 64)
Hook = Callable[[nn.Module, Tensor, Tensor], int]

# Lyken17/pytorch-OpCounter thop/count_hooks.py of 2019, sovrasov/flops-counter.pytorch
# ptflops/flops_counter.py of 2020: operations of one call of a layer


def convolution(m: Any, x: Tensor, y: Tensor) -> int:
    taps = m.in_channels // m.groups * math.prod(m.kernel_size)
    return y.numel() * (taps + (m.bias is not None))


def nothing(m: Any, x: Tensor, y: Tensor) -> int:
    return 0


def per_input(times: int) -> Hook:
    return lambda m, x, y: times * x.numel()


THOP: dict[type[nn.Module], Hook] = {
    nn.Conv2d: convolution,
    nn.Conv1d: convolution,
    nn.Linear: lambda m, x, y: (2 * m.in_features - 1) * y.numel(),
    nn.BatchNorm2d: per_input(4),
    nn.ReLU: per_input(1),
    nn.ReLU6: per_input(1),
    nn.MaxPool2d: nothing,
    nn.AdaptiveAvgPool2d: lambda m, x, y: (math.prod(x.shape[2:]) + 1) * y.numel(),
}
PTFLOPS: dict[type[nn.Module], Hook] = {
    **THOP,
    nn.Linear: lambda m, x, y: m.in_features * y.numel(),
    nn.BatchNorm2d: per_input(2),
    nn.MaxPool2d: per_input(1),
    nn.AdaptiveAvgPool2d: per_input(1),
}
TOOLS: dict[str, tuple[dict[type[nn.Module], Hook], bool]] = {
    "thop-2019-07": (THOP, True),  # a layer's count is overwritten by its next call
    "thop-2019-08": ({**THOP, nn.ReLU: nothing, nn.ReLU6: nothing}, True),
    "ptflops": (PTFLOPS, False),
}


def hooked(net: nn.Module, hooks: dict[type[nn.Module], Hook], overwrites: bool) -> int:
    counts: dict[nn.Module, int] = {}

    def note(m: nn.Module, x: tuple[Tensor, ...], y: Tensor) -> None:
        before = 0 if overwrites else counts.get(m, 0)
        counts[m] = before + hooks[type(m)](m, x[0], y)

    for module in net.modules():
        if type(module) in hooks:
            module.register_forward_hook(note)
    with torch.no_grad():
        net.eval()(torch.zeros(SIZE))
    return sum(counts.values())


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_count_as_by_the_tools_hooks(tool: str, name: str) -> None:
    from torchvision import models

    theirs = getattr(models, name)(weights=None)
    expected = hooked(theirs, *TOOLS[tool])
    assert cost(create_model(name), SIZE, convention=tool).macs == expected
    assert cost(theirs, SIZE, convention=tool).macs == expected


class Seen(nn.Module):
    """ECA and SE as their authors write them, from layers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 32, 3, 2, 1, bias=True), nn.BatchNorm2d(32)
        self.act, self.pool = nn.ReLU6(), nn.AdaptiveAvgPool2d(1)
        self.eca = nn.Conv1d(1, 1, 5, padding=2, bias=False)
        self.fc = nn.Sequential(nn.Linear(32, 2, bias=False), nn.ReLU(), nn.Linear(2, 32))
        self.se_pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        gate = self.eca(self.pool(x).flatten(2).transpose(1, 2)).sigmoid()
        x = x * gate.transpose(1, 2)[..., None]
        return x * self.fc(self.se_pool(x).flatten(1)).sigmoid()[..., None, None]


@pytest.mark.parametrize("tool", TOOLS)
def test_our_blocks_count_as_the_authors_layers(tool: str) -> None:
    theirs = Seen()
    ours = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU6()),
        create_block("eca", 32, kernel_size=5),
        create_block("se", 32, bias=False),
    )
    expected = hooked(theirs, *TOOLS[tool])
    assert cost(theirs, SIZE, convention=tool).macs == expected
    assert cost(ours, SIZE, convention=tool).macs == expected


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_global_pool_counts_alike_in_every_form(convention: str) -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((-1, -2), keepdim=True)

    size = (2, 8, 6, 5)
    pooled, mean = (cost(m, size, convention=convention) for m in (nn.AdaptiveAvgPool2d(1), Mean()))
    assert pooled.macs == mean.macs
    assert sum(pooled.uncounted.values()) == sum(mean.uncounted.values())


@pytest.mark.parametrize("convention", ["thop-2019-07", "thop-2019-08", "ptflops", "fvcore"])
def test_what_a_tool_does_not_count_is_named(convention: str) -> None:
    uncounted = cost(create_block("ca", 32), (1, 32, 8, 8), convention=convention).uncounted
    assert uncounted["mean"] == uncounted["sigmoid"] == uncounted["mul"] == 2


def fvcore_of(net: nn.Module, size: tuple[int, ...]) -> dict[str, int]:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(net.eval(), torch.zeros(size))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return dict(analysis.by_operator())


# fvcore traces with torch.jit, which warns of its own age and of sizes read as numbers
quiet = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning",
                                   "ignore::torch.jit.TracerWarning")  # fmt: skip


@quiet
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_fvcore_counts_products_as_we_do_and_norms_and_pools_besides(name: str) -> None:
    from torchvision import models

    net = getattr(models, name)(weights=None)
    found = fvcore_of(net, SIZE)
    by_operator = {k: v for k, v in found.items() if v}
    ours = cost(net, SIZE)
    assert ours.macs == by_operator.pop("conv") + by_operator.pop("linear")
    # all that is left: two operations per element of a batch norm, one per element pooled
    elements: dict[type[nn.Module], int] = {}
    for kind in (nn.BatchNorm2d, nn.AdaptiveAvgPool2d):
        elements[kind] = hooked(getattr(models, name)(weights=None), {kind: per_input(1)}, False)
    assert by_operator.pop("batch_norm") == 2 * elements[nn.BatchNorm2d]
    # torchvision's MobileNetV2 pools by a function
    pooled = elements[nn.AdaptiveAvgPool2d] or 1280 * 3 * 2
    assert by_operator == {"adaptive_avg_pool2d": pooled}
    assert cost(net, SIZE, convention="fvcore").macs == sum(found.values())


class Strips(nn.Module):
    """The two pools of Coordinate Attention as its authors write them."""

    def __init__(self) -> None:
        super().__init__()
        self.h, self.w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        self.conv = nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat((self.h(x), self.w(x).transpose(2, 3)), 2))


@quiet
def test_fvcore_counts_strip_pools_which_we_never_do() -> None:
    """Written as means it counts none: the same function has two numbers there, one here."""
    found = fvcore_of(Strips(), (1, 16, 12, 10))
    assert found["adaptive_avg_pool2d"] == 2 * 16 * 12 * 10
    assert cost(Strips(), (1, 16, 12, 10), convention="fvcore").macs == 16 * 8 * 22
    assert found["conv"] == 16 * 8 * 22


def test_the_command_line_knows_every_convention() -> None:
    assert list(CONVENTIONS) == list(SPOKEN)
