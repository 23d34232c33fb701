"""Training steps as one operator forward and one for all gradients, against float64."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convattn import ops
from convattn.blocks import create_block
from convattn.core.errors import InputError

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
    "eca-1": ("eca", {"kernel_size": 1}),
    "eca-17": ("eca", {"kernel_size": 17}),
    "eca-circular": ("eca", {"circular": True, "kernel_size": 9}),
    "ela": ("ela", {"norm_groups": 1}),
    "ela-large": ("ela", {"scale": "large", "norm_groups": 1}),
    "ela-paper": ("ela", {"variant": "paper", "norm_groups": 1}),
    "ela-timm": ("ela", {"variant": "timm"}),
    "cbam": ("cbam", {}),
    "cbam-paper": ("cbam", {"variant": "paper", "kernel_size": 3}),
    "cbam-timm": ("cbam", {"variant": "timm"}),
    "triplet": ("triplet", {}),
    "triplet-3": ("triplet", {"kernel_size": 3}),
    "gc": ("gc", {"reduction": 4}),
    "gc-timm": ("gc", {"variant": "timm", "fusion": "add"}),
    "srm": ("srm", {}),
    "srm-paper": ("srm", {"variant": "paper"}),
}
# few places, long rows, channels that fill no vector, more images than threads
SIZES = [
    (4, 16, 1, 1), (2, 48, 1, 40), (3, 36, 7, 7), (2, 64, 17, 18), (1, 16, 70, 130), (5, 20, 4, 3),
    (1, 192, 28, 9), (16, 24, 6, 5),
]  # fmt: skip


def sizes_of(form: str) -> list[tuple[int, ...]]:
    """Of maps that the form trains on: SRM's batch norm needs more than one image."""
    least = 2 if FORMS[form][0] == "srm" else 1
    return [(max(n, least), *size) for n, *size in SIZES]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(7)


def a_block(form: str, channels: int) -> nn.Module:
    name, options = FORMS[form]
    block = create_block(name, channels, **options).train()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    for norm in norms(block):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return block


def norms(block: nn.Module) -> list[nn.Module]:
    return [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


NORMED = [form for form in FORMS if norms(a_block(form, 32))]


def a_map(size: tuple[int, ...], layout: str) -> Tensor:
    return (torch.randn(size) + 0.3).contiguous(memory_format=FORMATS[layout])


def step(block: nn.Module, x: Tensor, dy: Tensor, one: bool = True) -> dict[str, Tensor]:
    """Output, gradients and buffers after a training step, by one operator or not."""
    x = x.detach().requires_grad_()
    y = block(x)
    assert ("_Step" in type(y.grad_fn).__name__) is one
    y.backward(dy.to(y.dtype))
    values = {"y": y.detach(), "x": x.grad, **dict(block.named_buffers())}
    return values | {name: p.grad for name, p in block.named_parameters()}


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """Largest error of each, relative to its largest value; to that of all where it is zero.

    One or two numbers may be small by chance: they are held against the largest of such.
    """
    sizes = {name: float(value.abs().max()) for name, value in exact.items()}
    largest = max(sizes.values())
    few = max((sizes[n] for n, v in exact.items() if v.numel() <= 2), default=0.0)
    scales = {n: few if v.numel() <= 2 else sizes[n] for n, v in exact.items()}
    scales = {name: size if size > 1e-9 * largest else largest for name, size in scales.items()}
    return {n: float((found[n].double() - v).abs().max() / scales[n]) for n, v in exact.items()}


def check(found: dict[str, Tensor], block: nn.Module, x: Tensor, dy: Tensor) -> None:
    """The step is that of float64: to 1e-5, or nearly as PyTorch's float32 steps are.

    A norm over few values magnifies the rounding, of PyTorch's steps as well.
    """
    with ops.reference_only():
        exact = step(copy.deepcopy(block).double(), x.double(), dy, one=False)
        wrong = {name: e for name, e in errors(found, exact).items() if not e < 1e-5}
        by_steps = errors(step(copy.deepcopy(block), x, dy, one=False), exact) if wrong else {}
    for name, error in wrong.items():
        assert error < 3 * by_steps[name], (tuple(x.shape), name)


@needs_kernels
@pytest.mark.parametrize("form", [*FORMS, *(f"{form} frozen" for form in NORMED)])
@pytest.mark.parametrize("layout", FORMATS)
def test_a_step_is_that_of_float64(form: str, layout: str) -> None:
    form, training = form.removesuffix(" frozen"), not form.endswith(" frozen")
    threads = torch.get_num_threads()
    for size in sizes_of(form):
        block = a_block(form, size[1]).train(training)
        x, dy = a_map(size, layout), torch.randn(size)
        found = []
        try:
            for count in (1, 2):
                torch.set_num_threads(count)
                found.append(step(copy.deepcopy(block), x, dy))
        finally:
            torch.set_num_threads(threads)
        assert found[0]["x"].stride() == found[0]["y"].stride() == x.stride()
        check(found[0], block, x, dy)
        for name, value in found[0].items():
            assert torch.equal(value, found[1][name]), (size, name)


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 1e4), (1e-8, 0.0), (1e4, 0.0)])
def test_hard_numbers(form: str, layout: str, scale: float, shift: float) -> None:
    size = (2, 32, 20, 35)
    block, x, dy = a_block(form, 32), a_map(size, layout) * scale + shift, torch.randn(size)
    with torch.no_grad():
        for parameter in block.parameters():  # or every gate would be 0 or 1
            parameter /= max(1, scale, shift)
    check(step(copy.deepcopy(block), x, dy), block, x, dy)


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FORMATS)
def test_what_is_not_finite_spreads_as_in_pytorch(form: str, layout: str) -> None:
    size = (3, 24, 5, 6)
    x, dy = a_map(size, layout), torch.randn(size)
    x[0, 1, 2, 3], x[1, 3, 0, 0] = float("nan"), float("inf")
    block = a_block(form, 24)
    found = step(copy.deepcopy(block), x, dy)
    with ops.reference_only():
        expected = step(copy.deepcopy(block), x, dy, one=False)
    assert torch.equal(found["y"].isfinite(), expected["y"].isfinite())
    # beyond: PyTorch's ReLU6 lets NaN through or not, as its vectors happen to lie
    assert torch.equal(found["x"][2].isfinite(), expected["x"][2].isfinite())


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FORMATS)
def test_gradients_of_gradients_are_those_of_the_steps(form: str, layout: str) -> None:
    block, x = a_block(form, 24), a_map((2, 24, 4, 5), layout)

    def penalty(own: nn.Module, at: Tensor) -> dict[str, Tensor]:
        inputs = {"x": at.requires_grad_(), **dict(own.named_parameters())}
        of = tuple(inputs.values())
        gradients = torch.autograd.grad(own(at).square().sum(), of, create_graph=True)
        found = torch.autograd.grad(sum(g.square().sum() for g in gradients), of)
        return dict(zip(inputs, found, strict=True))

    with ops.reference_only():
        exact = penalty(copy.deepcopy(block).double(), x.double())
    found = penalty(block, x)
    scale = max(float(value.abs().max()) for value in exact.values())
    for name, value in exact.items():  # a bias before a norm has none
        torch.testing.assert_close(found[name].double(), value, rtol=1e-3, atol=1e-5 * scale)


@needs_kernels
@pytest.mark.parametrize("form", NORMED)
@pytest.mark.parametrize(
    "settings", [{"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"track_running_stats": False},
                 {"affine": False}],
    ids=str,
)  # fmt: skip
def test_running_statistics_are_batch_norms(form: str, settings: dict[str, Any]) -> None:
    block = a_block(form, 24)
    for parent in list(block.modules()):
        for name, norm in list(parent.named_children()):
            if norm in norms(block):
                setattr(parent, name, type(norm)(norm.num_features, **settings))
    other = copy.deepcopy(block)
    for _ in range(3):
        x = (torch.randn(4, 24, 9, 6) * 3 + 1).requires_grad_()
        y = block(x)
        assert "_Step" in type(y.grad_fn).__name__
        with ops.reference_only():
            torch.testing.assert_close(y, other(x), rtol=1e-5, atol=1e-5)
    for one, two in zip(block.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", FORMATS)
def test_the_operators_are_registered_as_pytorch_wants(
    form: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, tuple[Any, ...]]] = []
    redispatch = torch._ops.OpOverload.redispatch

    def noted(operator: Any, keys: Any, *arguments: Any) -> Any:
        calls.append((operator, arguments))
        return redispatch(operator, keys, *arguments)

    block, x = a_block(form, 16).requires_grad_(False), a_map((2, 16, 5, 6), layout)
    with monkeypatch.context() as patch:
        patch.setattr(torch._ops.OpOverload, "redispatch", noted)
        step(block, x, torch.randn(x.shape))
    assert [str(operator).split("_")[-1] for operator, _ in calls] == [
        "step.default", "gradients.default"
    ]  # fmt: skip
    for operator, arguments in calls:
        torch.library.opcheck(
            operator, tuple(a.detach() if isinstance(a, Tensor) else a for a in arguments)
        )
    gradients, arguments = calls[1]
    for place, argument in enumerate(arguments):
        if isinstance(argument, Tensor):
            wrong = [*arguments]
            wrong[place] = torch.zeros(6)
            with pytest.raises(RuntimeError, match="convattn operators"):
                gradients(*wrong)


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_given_where_they_are_wanted(form: str) -> None:
    size = (2, 24, 5, 6)
    block, x, dy = a_block(form, 24), a_map(size, "contiguous"), torch.randn(size)
    every = step(copy.deepcopy(block), x, dy)
    names = [name for name, _ in block.named_parameters()]
    for wanted in names:
        own = copy.deepcopy(block).requires_grad_(False)
        own.get_parameter(wanted).requires_grad_()
        own(x).backward(dy)
        for name in names:
            gradient = own.get_parameter(name).grad
            if name == wanted:
                assert torch.equal(gradient, every[name])
            else:
                assert gradient is None
    frozen = copy.deepcopy(block).requires_grad_(False)
    at = x.clone().requires_grad_()
    frozen(at).backward(dy)
    assert torch.equal(at.grad, every["x"])


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
def test_it_keeps_the_map_and_little_else(form: str) -> None:
    size = (2, 64, 28, 28)
    block, x = a_block(form, 64), a_map(size, "contiguous").requires_grad_()
    kept: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        block(x)
    own = {p.untyped_storage().data_ptr() for p in block.parameters()}
    beside = sum(size for at, size in kept.items() if at not in own | {x.data_ptr()})
    assert x.data_ptr() in kept
    assert beside < 0.5 * x.nbytes


@needs_kernels
@pytest.mark.parametrize("form", FORMS)
def test_it_stands_aside_for_what_it_does_not_know(form: str) -> None:
    x = a_map((2, 32, 5, 6), "contiguous")
    assert a_block(form, 32)._whole(x) is not None
    assert a_block(form, 32)._whole(x.double()) is None
    assert a_block(form, 32).bfloat16()._whole(x.bfloat16()) is None
    assert a_block(form, 32)._whole(x[..., ::2]) is None
    with torch.autocast("cpu"):
        assert a_block(form, 32)._whole(x) is None
    with ops.reference_only():
        assert a_block(form, 32)._whole(x) is None
    changes: list[Callable[[nn.Module], object]] = [
        lambda layer: layer.register_forward_hook(lambda *a: None),
        lambda layer: layer.register_full_backward_hook(lambda *a: None),
        lambda layer: layer.register_full_backward_pre_hook(lambda *a: None),
        lambda layer: nn.utils.parametrizations.weight_norm(layer),
    ]
    layers = [n for n, m in a_block(form, 32).named_children() if hasattr(m, "weight")]
    for name in layers:
        for change in changes:
            block = a_block(form, 32)
            change(block.get_submodule(name))
            assert block._whole(x) is None, name


@needs_kernels
@pytest.mark.parametrize("form", [form for form in FORMS if form == FORMS[form][0]])
def test_compiled_for_training_without_a_break(form: str) -> None:
    block = a_block(form, 16)
    torch.compiler.reset()  # the other forms' programs count towards its limit
    compiled = torch.compile(
        copy.deepcopy(block), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    # a norm over two images magnifies the rounding of PyTorch's own steps
    for size in ((4, 16, 7, 9), (3, 16, 12, 5)):
        x, dy = a_map(size, "contiguous"), torch.randn(size)
        found = step(copy.deepcopy(block), x, dy)
        at = x.clone().requires_grad_()
        y = compiled(at)
        y.backward(dy)
        torch.testing.assert_close(y.detach(), found["y"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(at.grad, found["x"], rtol=1e-4, atol=1e-5)


@needs_kernels
def test_one_image_is_refused_as_by_the_steps() -> None:
    block, x = a_block("srm", 24), torch.randn(1, 24, 5, 6)
    for norm_trains in (True, False):
        block.bn.train(norm_trains)
        with pytest.raises(InputError, match="more than one value per channel"):
            block(x)
    block.eval().bn.train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        block(x)


BESIDE = """
import itertools, torch, convattn
torch.set_num_threads(1)
torch.set_flush_denormal(True)  # adding zero to the allocator's own numbers then spoils them
sizes = [(1, 1), (1, 2), (2, 2), (2, 3), (1, 7), (3, 3)]
formats = [torch.contiguous_format, torch.channels_last]
for name in ["ca", "se", "eca", "srm", "cbam", "gc", "ela", "triplet"]:
    for channels, size, layout in itertools.product((16, 48), sizes, formats):
        block = convattn.create_block(name, channels)
        x = torch.randn(4, channels, *size).contiguous(memory_format=layout).requires_grad_()
        for _ in range(3):
            block.train()(x).sum().backward()
            with torch.no_grad():
                block.eval()(x)
"""


def test_nothing_is_written_behind_small_maps() -> None:
    done = subprocess.run([sys.executable, "-c", BESIDE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
