"""Whole blocks in evaluation as one operator, against the blocks' own steps in float64."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convattn import ops
from convattn.blocks import create_block

needs_kernels = pytest.mark.skipif(
    not ops.kernels().startswith("compiled"),
    reason=f"the compiled operators are not there: {ops.kernels()}",
)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "ca": ("ca", {}),
    "ca-relu-no-bias": ("ca", {"act": "relu", "bias": False}),
    "ca-no-norm": ("ca", {"norm": False}),
    "ca-timm": ("ca", {"variant": "timm"}),
    "se": ("se", {}),
    "se-relu6-no-bias": ("se", {"act": "relu6", "bias": False, "reduction": 3}),
    "eca": ("eca", {}),
    "eca-circular": ("eca", {"circular": True, "kernel_size": 9}),
    "srm": ("srm", {}),
    "srm-paper": ("srm", {"variant": "paper"}),
    "cbam": ("cbam", {}),
    "cbam-paper": ("cbam", {"variant": "paper", "kernel_size": 3}),
    "cbam-timm": ("cbam", {"variant": "timm"}),
    "gc": ("gc", {}),
    "ela": ("ela", {}),
    "ela-large": ("ela", {"scale": "large"}),
    "ela-timm": ("ela", {"variant": "timm"}),
    "ela-paper": ("ela", {"variant": "paper"}),
    "triplet": ("triplet", {}),
    "triplet-3": ("triplet", {"kernel_size": 3}),
}
# one position, one row, one column; narrower and wider than a vector; chains of sums that are cut
SIZES = [
    (1, 16, 1, 1), (2, 48, 1, 40), (1, 16, 40, 1), (3, 32, 7, 7), (2, 64, 17, 18), (1, 16, 70, 130),
    (1, 192, 28, 9),
]  # fmt: skip


def a_block(form: str, channels: int) -> nn.Module:
    name, options = FORMS.get(form, (form, {}))
    block = create_block(name, channels, **options)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return block.eval()


def a_map(size: tuple[int, ...], layout: str) -> Tensor:
    return (2 * torch.randn(size) + 0.5).contiguous(memory_format=FORMATS[layout])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(7)


@torch.no_grad()
def at_once(block: nn.Module, x: Tensor) -> Tensor:
    """The output of the operator, which must be there."""
    y = block._whole(x)
    assert y is not None
    return y


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FORMATS)
def test_the_output_is_the_blocks_in_float64(form: str, layout: str) -> None:
    threads = torch.get_num_threads()
    for size in SIZES:
        x, block = a_map(size, layout), a_block(form, size[1])
        outputs = []
        try:
            for count in (1, 2):  # images are shared out, or the channels and rows of one
                torch.set_num_threads(count)
                outputs.append(at_once(block, x))
        finally:
            torch.set_num_threads(threads)
        with torch.no_grad():
            assert torch.equal(block(x), outputs[0]), size
        exact = block.double()(x.double())
        for y in outputs:
            assert y.stride() == x.stride()
            assert (y.double() - exact).abs().max() < 1e-5 * exact.abs().max(), size


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FORMATS)
def test_bfloat16_is_computed_in_float32_and_rounded_once(form: str, layout: str) -> None:
    block = a_block(form, 32).bfloat16()
    x = a_map((2, 32, 9, 21), layout).bfloat16()
    y = at_once(block, x)
    exact = block.double()(x.double())
    assert y.dtype == torch.bfloat16
    # to nearest: half a unit in the last of 8 digits, and what float32 adds
    assert ((y.double() - exact).abs() <= exact.abs() * 1.01 * 2**-8 + 1e-5).all()


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 1e4), (1e-8, 0.0), (1e8, 0.0), (1e-41, 0.0)])
def test_hard_numbers(form: str, layout: str, scale: float, shift: float) -> None:
    block = a_block(form, 32)
    x = a_map((1, 32, 20, 35), layout) * scale + shift
    y = at_once(block, x)
    block, x = block.double(), x.double()
    exact = block(x)
    # how far the exact output moves when the channels are rounded to 22 binary digits, which a
    # block that takes the difference of large means cannot do without
    rounding = 2**-22 * torch.randn(1, 32, 1, 1, dtype=torch.float64).sign()
    moved = (block(x * (1 + rounding)) - exact).abs().max()
    smallest = 2.0**-149  # of float32; a product of two gates is rounded twice
    bound = 1e-5 * exact.abs().max() + 4 * moved + 2 * smallest
    assert (y.double() - exact).abs().max() <= bound


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_is_not_finite_spreads_as_in_pytorch(form: str, layout: str, value: float) -> None:
    x = a_map((3, 32, 5, 18), layout)
    x[0, 3, 2, 17], x[2, 31, 4, 0] = value, value
    block = a_block(form, 32)
    y = at_once(block, x)
    with torch.no_grad(), ops.reference_only():
        expected = block(x)
    assert torch.equal(y.isnan(), expected.isnan())
    assert torch.equal(y.isinf(), expected.isinf())


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FORMATS)
def test_nothing_outside_of_the_map_is_used_or_written(form: str, layout: str) -> None:
    for size in [(1, 16, 5, 7), (2, 16, 3, 3), (1, 32, 2, 18)]:
        x = a_map(size, layout)
        values = torch.full((x.numel() + 64,), float("nan"))
        inside = values[:-64].as_strided(size, x.stride())
        inside.copy_(x)
        block = a_block(form, size[1])
        assert torch.equal(at_once(block, inside), at_once(block, x))


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "hooks": lambda layer: layer.register_forward_hook(print),
    "parametrised": lambda layer: nn.utils.parametrizations.weight_norm(layer),
    "another class": lambda layer: setattr(layer, "__class__", type("Own", (type(layer),), {})),
    "a forward of its own": lambda layer: setattr(layer, "forward", lambda x: x),
}
CONVOLUTIONS: dict[str, Callable[[nn.Module], object]] = {
    "circular": lambda conv: setattr(conv, "padding_mode", "circular"),
    "padding": lambda conv: setattr(conv, "padding", tuple(p + 1 for p in conv.padding)),
    "dilation": lambda conv: setattr(conv, "dilation", tuple(2 for _ in conv.padding)),
    "stride": lambda conv: setattr(conv, "stride", tuple(2 for _ in conv.padding)),
    "groups": lambda conv: setattr(conv, "groups", 2),
}


@needs_kernels
@pytest.mark.parametrize("form", ["ca", "se", "eca", "cbam", "gc", "ela", "triplet"])
@pytest.mark.parametrize("change", CHANGES)
def test_it_stands_aside_for_layers_that_are_more_than_their_weights(
    form: str, change: str
) -> None:
    block, x = a_block(form, 32), a_map((2, 32, 5, 6), "contiguous")
    with torch.no_grad():
        assert block._whole(x) is not None
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
        CHANGES[change](next(m for m in block.modules() if isinstance(m, kinds)))
        assert block._whole(x) is None


@needs_kernels
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("form", ["ca", "eca", "cbam", "gc", "triplet"])
@pytest.mark.parametrize("change", CONVOLUTIONS)
def test_it_stands_aside_for_other_convolutions(form: str, change: str, train: bool) -> None:
    block, x = a_block(form, 32).train(train), a_map((2, 32, 5, 6), "contiguous")
    with torch.set_grad_enabled(train):
        assert block._whole(x) is not None
        kinds = (nn.Conv1d, nn.Conv2d)
        CONVOLUTIONS[change](next(m for m in block.modules() if isinstance(m, kinds)))
        assert block._whole(x) is None


@pytest.mark.parametrize("form", ["ca", "cbam", "triplet", "srm"])
@pytest.mark.parametrize("norm", [lambda c: nn.GroupNorm(1, c), lambda c: nn.Identity()])
def test_norms_that_somebody_replaced_are_called(form: str, norm: Callable[[int], Any]) -> None:
    block, x = a_block(form, 32), a_map((2, 32, 5, 6), "contiguous")
    for path, module in [*block.named_modules()]:
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            block.set_submodule(path, norm(module.num_features))
    with torch.no_grad():
        torch.testing.assert_close(block(x), block.double()(x.double()).float())


@pytest.mark.parametrize("form", ["eca", "cbam", "triplet", "ela"])
def test_a_bias_that_somebody_added_counts(form: str) -> None:
    block, x = a_block(form, 32), a_map((2, 32, 5, 6), "contiguous")
    with torch.no_grad():
        before = block(x)
        for module in block.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                module.bias = nn.Parameter(torch.randn(module.out_channels))
        y = block(x)
        assert not torch.equal(y, before)
        torch.testing.assert_close(y, block.double()(x.double()).float())


@pytest.mark.parametrize("form", ["srm", "cbam", "triplet"])
def test_it_stands_aside_in_training(form: str) -> None:
    block, x = a_block(form, 32).train(), a_map((2, 32, 5, 6), "contiguous")
    with torch.no_grad():
        assert block._whole(x) is None


@pytest.mark.parametrize("form", FORMS)
def test_it_stands_aside_where_autocast_is_on_or_the_reference_is_wanted(form: str) -> None:
    block, x = a_block(form, 32), a_map((2, 32, 5, 6), "contiguous")
    with torch.no_grad(), torch.autocast("cpu"):
        assert block._whole(x) is None
    with torch.no_grad(), ops.reference_only():
        assert block._whole(x) is None


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
def test_registered_and_compiled_without_a_break_for_any_size(form: str) -> None:
    torch._dynamo.reset()
    block = a_block(form, 32)
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for size in ((2, 32, 7, 9), (3, 32, 12, 5)):
            x = a_map(size, "contiguous")
            assert torch.equal(compiled(x), block(x))


OPERATORS = {
    "ca": ("coordinate_attention", "coordinate_attention"),
    "se": ("channel_gates", "squeeze_excitation"),
    "eca": ("channel_gates", "efficient_channel_attention"),
    "srm": ("channel_gates", "style_recalibration"),
    "cbam": ("position_gates", "cbam"),
    "triplet": ("position_gates", "triplet"),
    "gc": ("context", "global_context"),
    "ela": ("local_attention", "local_attention"),
}


@pytest.fixture
def a_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], tuple[Any, tuple[Any, ...]]]:
    """Of a form's operator: the operator and the arguments that its block gives it."""

    def call(form: str, layout: str) -> tuple[Any, tuple[Any, ...]]:
        file, name = OPERATORS[form]
        calls: list[tuple[Any, ...]] = []
        module = sys.modules[f"convattn.ops.whole_blocks.{file}"]
        monkeypatch.setattr(module, f"_{form}", lambda *arguments: calls.append(arguments) or x)
        x = a_map((2, 32, 5, 6), layout)
        at_once(a_block(form, 32).requires_grad_(False), x)
        return getattr(torch.ops.convattn, name).default, calls[0]

    return call


@needs_kernels
@pytest.mark.parametrize("form", OPERATORS)
def test_registered_as_pytorch_wants(form: str, a_call: Any) -> None:
    torch.library.opcheck(*a_call(form, "channels_last"))


@needs_kernels
@pytest.mark.parametrize("form", ["ca", "se", "cbam", "gc", "ela"])
def test_parameters_that_do_not_fit_are_refused(form: str, a_call: Any) -> None:
    operator, arguments = a_call(form, "contiguous")
    for place, value in enumerate(arguments):
        if isinstance(value, Tensor) and place:
            wrong = [*arguments]
            wrong[place] = torch.zeros(5)
            with pytest.raises(RuntimeError, match="convattn operators"):
                operator(*wrong)
