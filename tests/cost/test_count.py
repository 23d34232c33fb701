"""Counts equal closed formulas, published sizes and torch's own counter, however a block is put."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils.flop_counter import FlopCounterMode

import convattn
import convattn.cost.latency
from convattn import create_block, create_model
from convattn.core.errors import ArgumentError, InputError, UnknownNameError
from convattn.cost import cost


# reference/blocks.md section 2, measured with the authors' code, conv+linear at 224x224
@pytest.mark.parametrize(
    ("width", "attention", "arguments", "parameters", "macs"),
    [
        (1.0, "none", None, 3_504_872, 300.8),
        (0.75, "none", None, 2_636_424, 209.1),
        (0.5, "none", None, 1_968_680, 97.1),
        (1.0, "ca", None, 3_950_648, 306.7),
        (0.75, "ca", None, 2_891_631, 212.6),  # printed 212.7 there: 212.649 rounded twice
        (0.5, "ca", None, 2_095_568, 99.0),
        (1.0, "ca", {"reduction": 16}, 4_366_850, 311.8),
        (1.0, "se", {"reduction": 24, "act": "relu6"}, 3_888_208, 301.2),
        (1.0, "cbam", {"reduction": 24}, 3_889_808, 302.5),
    ],
)
def test_mobilenet_v2_costs_what_the_authors_code_does(
    width: float, attention: str, arguments: Any, parameters: int, macs: float
) -> None:
    model = create_model(
        "mobilenet_v2", attention=attention, attention_args=arguments, width_mult=width
    )
    result = cost(model)
    assert result.parameters == parameters
    assert round(result.macs / 1e6, 1) == macs


def test_coordinate_attention_adds_exactly_this_to_mobilenet_v2() -> None:
    plain, ca = (cost(create_model("mobilenet_v2", attention=name)) for name in ("none", "ca"))
    assert ca.macs - plain.macs == 5_892_096
    assert ca.parameters - plain.parameters == 445_776
    # 2Cm(H+W) over the layer table: channels C, hidden m, side of the square map, repeats
    table = [(96, 8, 56, 1), (144, 8, 56, 1), (144, 8, 28, 1), (192, 8, 28, 2), (192, 8, 14, 1)]
    table += [(384, 12, 14, 4), (576, 18, 14, 2), (576, 18, 7, 1), (960, 30, 7, 3)]
    assert sum(4 * c * m * side * repeats for c, m, side, repeats in table) == 5_892_096


def test_equals_torchvision_under_torchs_own_counter() -> None:
    from torchvision.models import mobilenet_v2

    theirs = mobilenet_v2(weights=None).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        theirs(torch.zeros(1, 3, 96, 128))
    size = (1, 3, 96, 128)
    assert cost(theirs, size).macs == counter.get_total_flops() // 2
    assert cost(create_model("mobilenet_v2"), size).macs == counter.get_total_flops() // 2
    # timm's list of model sizes has 6.68 M activations for this network at 224
    assert round(cost(theirs).activations / 1e6, 2) == 6.68


C, H, W, M = 64, 20, 12, 4


@pytest.mark.parametrize(
    ("name", "arguments", "macs"),
    [
        ("none", {}, 0),
        ("ca", {"reduction": 16, "min_hidden": 1}, 2 * C * M * (H + W)),
        ("ca", {"reduction": 16, "min_hidden": 1, "axes": "h"}, 2 * C * M * H),
        ("se", {"reduction": 16}, 2 * C * M),
        ("cbam", {"reduction": 16}, 4 * C * M + 98 * H * W),
        ("eca", {"kernel_size": 5}, 5 * C),
        ("triplet", {}, 98 * (H * W + C * W + C * H)),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_blocks_cost_their_formula(name: str, arguments: Any, macs: int, batch: int) -> None:
    assert cost(create_block(name, C, **arguments), (batch, C, H, W)).macs == macs


class PooledCA(nn.Module):
    """Coordinate attention with adaptive pools and 1x1 convolutions, as its authors put it."""

    def __init__(self) -> None:
        super().__init__()
        self.pool_h, self.pool_w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        self.conv1, self.bn1 = nn.Conv2d(96, 8, 1), nn.BatchNorm2d(8)
        self.conv_h, self.conv_w = nn.Conv2d(8, 96, 1), nn.Conv2d(8, 96, 1)

    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.pool_h(x), self.pool_w(x).transpose(2, 3)

    def mixed(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return conv(x)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat(self.pooled(x), 2)
        y = self.bn1(self.mixed(self.conv1, y))
        h, w = (y * F.relu6(y + 3) / 6).split(x.shape[2:], 2)
        gate_h, gate_w = self.mixed(self.conv_h, h), self.mixed(self.conv_w, w.transpose(2, 3))
        return x * gate_h.sigmoid() * gate_w.sigmoid()


class MeanCA(PooledCA):
    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)


class ProductCA(MeanCA):
    def mixed(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        mixed = torch.einsum("oi,nihw->nohw", conv.weight.flatten(1), x)
        return mixed + conv.bias[:, None, None]


@pytest.mark.parametrize("form", [PooledCA, MeanCA, ProductCA])
def test_the_number_does_not_depend_on_how_a_block_is_written(form: type[nn.Module]) -> None:
    size = (2, 96, 56, 56)
    ours, theirs = cost(create_block("ca", 96), size), cost(form(), size)
    assert theirs.macs == ours.macs == 172_032  # reference/peers.md 1.5
    assert theirs.parameters == ours.parameters == 2520
    assert theirs.activations == ours.activations == (8 + 96) * 112


def test_attention_over_positions_is_counted_on_torchs_fused_path_too() -> None:
    tokens, width = 10, 32
    layer = nn.TransformerEncoderLayer(width, 4, dim_feedforward=64, batch_first=True)
    projections, attention, mlp = 4 * width * width, 2 * tokens * width, 2 * 64 * width
    result = cost(layer, (3, tokens, width))
    assert result.macs == tokens * (projections + attention + mlp)


def test_what_is_not_counted_is_named() -> None:
    result = cost(create_block("ca", 32), (1, 32, 8, 8))
    assert result.uncounted["mean"] == 2
    assert result.uncounted["sigmoid"] == 2
    assert result.uncounted["mul"] == 2
    assert result.uncounted["batch_norm"] == result.uncounted["hardswish"] == 1
    assert not {"view", "unsqueeze", "split_with_sizes", "empty"} & set(result.uncounted)
    custom = nn.Module()
    custom.forward = lambda x: torch.fft.fft(x).real  # type: ignore[assignment]
    assert "fft_r2c" in cost(custom, (1, 3, 8, 8), convention="all-ops").uncounted


def test_all_ops_follow_their_rules() -> None:
    n, plane = 4 * 6 * 6, 4 * 36 * 9
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU6())
    assert cost(net, (5, 4, 6, 6), convention="all-ops").macs == plane * 4 + 2 * n + n
    pools = nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))
    assert cost(pools, (5, 4, 6, 6), convention="all-ops").macs == n + n // 4 + 28
    c, h, w, m = 64, 10, 10, 8
    ca = cost(create_block("ca", c), (1, c, h, w), convention="all-ops")
    strips, maps = h + w, c * h * w
    encoded = m * strips * (1 + 2 + 1)  # bias, batch norm, h-swish
    gates = c * strips * (1 + 1)  # bias, sigmoid
    assert ca.macs == 2 * c * m * strips + 2 * maps + encoded + gates + 2 * maps
    assert not ca.uncounted


@pytest.mark.parametrize("name", ["ca", "se", "cbam", "eca", "triplet", "none"])
def test_all_ops_leave_nothing_out(name: str) -> None:
    assert not cost(create_block(name, 64), (1, 64, 16, 16), convention="all-ops").uncounted


@pytest.mark.parametrize("convention", ["conv+linear", "all-ops"])
def test_rows_add_up(convention: str) -> None:
    model = create_model("mobilenet_v2", attention="cbam", width_mult=0.5)
    result = cost(model, (2, 3, 64, 64), convention=convention)
    for rows in (result.per_module(), result.per_module(inside_blocks=True)):
        assert sum(row.parameters for row in rows) == result.parameters
        assert sum(row.macs for row in rows) == result.macs
        assert sum(row.activations for row in rows) == result.activations
        assert len({row.path for row in rows}) == len(rows)
    by_path = {row.path: row for row in result.per_module()}
    block = by_path["blocks.1.after_depthwise"]
    assert block.type == "CBAM"
    assert block.output_shape == (2, 48, 16, 16)
    assert block.parameters == 2 * 48 * 3 + 3 + 48 + 98 + 2
    assert not any(path.startswith("blocks.1.after_depthwise.") for path in by_path)
    stem = by_path["stem.conv"]
    assert (stem.parameters, stem.output_shape) == (16 * 27, (2, 16, 32, 32))


def test_shared_and_frozen_parameters_count_once() -> None:
    shared = nn.Linear(8, 8).requires_grad_(False)
    result = cost(nn.Sequential(shared, nn.ReLU(), shared), (1, 8))
    assert result.parameters == 72
    assert result.macs == 2 * 64


def _hooks(model: nn.Module) -> list[dict[Any, Any]]:
    return [dict(m._forward_hooks) | dict(m._forward_pre_hooks) for m in model.modules()]


@pytest.mark.parametrize("size", [(2, 3, 64, 64), (2, 5, 64, 64)])
def test_the_model_is_left_as_it_was(size: tuple[int, ...]) -> None:
    model = create_model("mobilenet_v2", attention="ca", width_mult=0.5)
    model.stem.eval()
    model.head.register_forward_hook(lambda *_: None)
    before = copy.deepcopy(model.state_dict())
    modes, hooks = [m.training for m in model.modules()], _hooks(model)
    attributes = [set(vars(m)) for m in model.modules()]
    random_state = torch.get_rng_state()
    if size[1] == 3:
        cost(model, size)
    else:
        with pytest.raises(InputError):
            cost(model, size)
    assert modes == [m.training for m in model.modules()]
    assert hooks == _hooks(model)
    assert attributes == [set(vars(m)) for m in model.modules()]
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not torch_module._global_forward_hooks
    assert not torch_module._global_forward_pre_hooks


def test_nothing_is_computed() -> None:
    """10^6 x 10^6 pixels could not be."""
    conv = nn.Conv2d(3, 8, 3, padding=1)
    assert cost(conv, (1, 3, 10**6, 10**6)).macs == 27 * 8 * 10**12


class Chosen(nn.Module):
    """Which rows go through the layer depends on their values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x[x.sum(1) > -1])


def test_a_path_that_depends_on_values_is_run() -> None:
    assert cost(Chosen(), (3, 4)).macs == 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_counts_in_the_models_own_precision(dtype: torch.dtype) -> None:
    assert cost(create_block("ca", 32).to(dtype), (1, 32, 8, 8)).macs == 2 * 32 * 8 * 16


def test_the_public_name_counts_whatever_was_imported_before() -> None:
    # `convattn.cost` is the function at first and the package once that has been imported
    for _ in range(2):
        assert convattn.cost(nn.Linear(3, 5), (1, 3)).macs == 15


@pytest.mark.parametrize("size", [224, "1,3,224,224", (3,), (1, 3, 0, 8), (1, 3, 2.0, 8), None])
def test_a_malformed_size_is_refused_with_an_example(size: Any) -> None:
    with pytest.raises(ArgumentError, match=r"such as \(1, 3, 224, 224\)"):
        cost(nn.Identity(), size)


def test_a_size_that_the_model_refuses_is_named() -> None:
    model = create_model("mobilenet_v2")
    with pytest.raises(InputError, match=r"MobileNetV2 .*\(1, 4, 32, 32\)") as caught:
        cost(model, (1, 4, 32, 32))
    assert caught.value.__cause__ is not None
    with pytest.raises(InputError, match=r"for one image use \(1, 3, 32, 32\)"):
        cost(model, (3, 32, 32))


def test_other_wrong_arguments() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'all-ops'"):
        cost(nn.Identity(), (1, 3), convention="all_ops")
    with pytest.raises(ArgumentError, match=r"torch.nn.Module"):
        cost("mobilenet_v2", (1, 3))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"run it once"):
        cost(_lazy(), (1, 3))


def _lazy() -> nn.Module:
    import warnings

    with warnings.catch_warnings():  # torch says that lazy layers may change
        warnings.simplefilter("ignore")
        return nn.LazyLinear(3)


def test_grouped_transposed_and_one_dimensional_convolutions() -> None:
    for groups, kernel in itertools.product((1, 2, 4), (1, 3)):
        conv = nn.Conv1d(4, 8, kernel, padding=kernel // 2, groups=groups)
        assert cost(conv, (2, 4, 10)).macs == 10 * 8 * (4 // groups) * kernel
    up = nn.ConvTranspose2d(4, 6, 2, stride=2)
    assert cost(up, (2, 4, 5, 5)).macs == 25 * 4 * 6 * 4
