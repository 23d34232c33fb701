"""What holds for every block: one test per property, parametrised over the registry.

A new block file is picked up by being there. Its samples are its defaults and, one at a time, each
option that its constructor offers: booleans are turned over, and the choices of a text are read
from the error that a wrong one raises.
"""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convattn.blocks import block_arguments, block_class, block_names, create_block
from convattn.blocks._base import Block
from convattn.core.errors import ArgumentError, ConvattnError, InputError

NAMES = block_names()
COMMON_CHANNELS = (64, 128, 32, 256)  # the first that a sample accepts is used
SIZES = [(h, h * 7 % 33 + 1) for h in range(1, 34)]
SIZES += [(1, w) for w in (1, 2, 3, 4, 7, 8, 15, 33)] + [(h, 1) for h in (2, 3, 4, 7, 8, 15, 33)]
SIZES += [(2, 2), (3, 3), (5, 3), (8, 8), (31, 2)]

# What an option is tried with if it is refused alone.
TOGETHER: dict[str, dict[str, Any]] = {"ge": {"extent": 4}}


class Sample:
    """A block and the arguments that differ from its defaults."""

    def __init__(self, name: str, **arguments: Any) -> None:
        self.name, self.arguments = name, arguments

    def __repr__(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.arguments.items())])

    @property
    def channels(self) -> int:
        return _first_accepted(self.name, tuple(self.arguments.items()), COMMON_CHANNELS)

    @property
    def fewest_channels(self) -> int:
        return _first_accepted(self.name, tuple(self.arguments.items()), tuple(range(1, 257)))

    @property
    def starts(self) -> bool:
        """Whether it can start as the identity."""
        return create_block(self.name, self.channels, **self.arguments).can_start_as_identity()

    def build(self, *, fewest: bool = False, dtype: torch.dtype = torch.float64) -> Block:
        channels = self.fewest_channels if fewest else self.channels
        return filled(create_block(self.name, channels, **self.arguments)).to(dtype)

    def input(
        self, *size: int, batch: int = 2, fewest: bool = False, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        channels = self.fewest_channels if fewest else self.channels
        axes = size or (6, 5, 4)[: self.arguments.get("ndim", 2)]
        return torch.randn(batch, channels, *axes, dtype=torch.float64).to(dtype)


@cache
def _first_accepted(name: str, arguments: tuple[tuple[str, Any], ...], among: Any) -> int:
    for channels in among:
        try:
            create_block(name, channels, **dict(arguments))
        except ArgumentError:
            continue
        return int(channels)
    raise LookupError(f"{name} with {arguments} accepts none of {among}")


def filled(block: Block, seed: int = 1) -> Block:
    """The block with random parameters, so that none that starts at zero hides a branch."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in block.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 2
            parameter.copy_(noise / fan_in**0.5)
    return block


def options(name: str) -> Iterator[tuple[str, Any]]:
    """Each option of the constructor, with each value that it accepts."""
    for argument in inspect.signature(block_class(name)).parameters.values():
        kind, default = str(argument.annotation), argument.default
        values: list[Any] = [True, False] if "bool" in kind else []
        if "str" in kind and "tuple" not in kind:
            with pytest.raises(ArgumentError) as refused:
                create_block(name, _any_channels(name), **{argument.name: "?"})
            choices = str(refused.value).split("must be one of")[-1].split("; got")[0]
            values += re.findall(r"'(\w+)'", choices)
        yield from ((argument.name, v) for v in values if v != default)


def _any_channels(name: str) -> int:
    return _first_accepted(name, (), COMMON_CHANNELS)


def samples(name: str) -> Iterator[Sample]:
    yield Sample(name)
    for argument, value in options(name):
        for more in ({}, TOGETHER.get(name, {})):
            sample = Sample(name, **{argument: value}, **more)
            try:
                _ = sample.channels, sample.fewest_channels
            except LookupError:
                continue  # its own test file has it
            yield sample
            break
    if "ndim" in block_arguments(name):
        yield Sample(name, ndim=1)
        yield Sample(name, ndim=3)


SAMPLES = [sample for name in NAMES for sample in samples(name)]
FLAT = [sample for sample in SAMPLES if "ndim" not in sample.arguments]
DEFAULTS = [Sample(name) for name in NAMES]

each = pytest.mark.parametrize("sample", SAMPLES, ids=repr)
each_flat = pytest.mark.parametrize("sample", FLAT, ids=repr)
each_identity = pytest.mark.parametrize("sample", [s for s in SAMPLES if s.starts], ids=repr)
each_default = pytest.mark.parametrize("sample", DEFAULTS, ids=repr)
each_name = pytest.mark.parametrize("name", NAMES)


def expected_shape(block: nn.Module, x: Tensor) -> tuple[int, ...]:
    return (x.shape[0], getattr(block, "out_channels", x.shape[1]), *x.shape[2:])


def check_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def gradients_are_finite(block: nn.Module, x: Tensor) -> bool:
    x = x.detach().requires_grad_()
    block(x).float().square().mean().backward()  # a sum's own gradient can exceed float16
    gradients = [x.grad, *(p.grad for p in block.parameters())]
    return all(bool(g.isfinite().all()) for g in gradients if g is not None)


def output_or_refusal(block: nn.Module, x: Tensor) -> Tensor | None:
    """The output, or None if the block says which map or batch it needs at least."""
    try:
        return block(x)
    except InputError as error:
        if not re.search(r"at least \d|Use a larger batch", str(error)):
            raise
        return None


# ------------------------------------------------------------------------------ shapes and numbers


@each
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_keeps_the_shape_and_is_finite(sample: Sample, mode: str) -> None:
    block, x = sample.build().train(mode == "train"), sample.input()
    y = block(x)
    assert tuple(y.shape) == expected_shape(block, x)
    assert y.isfinite().all()
    assert gradients_are_finite(block, x)


@each_flat
def test_takes_any_height_and_width(sample: Sample) -> None:
    block = sample.build(dtype=torch.float32).eval()
    refused = []
    with torch.no_grad():
        for size in SIZES:
            x = sample.input(*size, batch=1, dtype=torch.float32)
            y = output_or_refusal(block, x)
            if y is None:
                refused.append(size)
                continue
            assert tuple(y.shape) == expected_shape(block, x), size
            assert y.isfinite().all(), size
    assert all(min(size) < 8 for size in refused), f"refuses {refused}"


@each_flat
def test_one_position_has_finite_gradients(sample: Sample) -> None:
    block, x = sample.build().eval(), sample.input(1, 1)
    if output_or_refusal(block, x) is not None:
        assert gradients_are_finite(block, x)


@each
def test_trains_on_one_image(sample: Sample) -> None:
    block, x = sample.build().train(), sample.input(batch=1)
    if output_or_refusal(block, x) is not None:  # a batch norm on pooled values needs two images
        assert gradients_are_finite(block, x)
    assert all(bool(buffer.isfinite().all()) for buffer in block.buffers())


@each
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_takes_an_empty_batch(sample: Sample, mode: str) -> None:
    block, x = sample.build().train(mode == "train"), sample.input(batch=0)
    y = block(x.requires_grad_())
    assert tuple(y.shape) == expected_shape(block, x)
    y.sum().backward()
    assert all(bool(buffer.isfinite().all()) for buffer in block.buffers())


@each
@pytest.mark.parametrize("kind", ["zeros", "constant", "one_hot", "large"])
def test_finite_on_extreme_maps(sample: Sample, kind: str) -> None:
    x = sample.input(dtype=torch.float32)
    if kind == "one_hot":
        x.zero_().flatten(2)[..., 0] = 1
    else:
        x = x * 1e4 if kind == "large" else torch.full_like(x, float(kind == "constant"))
    block = sample.build(dtype=torch.float32)
    assert block.train()(x).isfinite().all()
    assert block.eval()(x).isfinite().all()
    assert gradients_are_finite(block, x)


@each_flat
def test_memory_layout_changes_nothing(sample: Sample) -> None:
    block, x = sample.build().eval(), sample.input(6, 5)
    expected = block(x)
    check_same(block(x.to(memory_format=torch.channels_last)), expected)
    transposed = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert not transposed.is_contiguous()
    check_same(block(transposed), expected)
    wide = torch.zeros(*x.shape[:3], 2 * x.shape[3], dtype=x.dtype)
    wide[..., ::2] = x
    check_same(block(wide[..., ::2]), expected)


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(sample: Sample, dtype: torch.dtype) -> None:
    block, x = sample.build(dtype=dtype).eval(), sample.input(dtype=dtype)
    y = block(x)
    assert y.dtype == dtype
    assert y.isfinite().all()
    assert gradients_are_finite(block, x)


@each
def test_autocast(sample: Sample) -> None:
    block, x = sample.build(dtype=torch.float32).eval(), sample.input(dtype=torch.float32)
    expected = block(x)
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = block(leaf)
    y.float().square().sum().backward()
    assert leaf.grad is not None
    assert all(bool(g.grad.isfinite().all()) for g in (leaf, *block.parameters()))
    if block_class(sample.name).family != "conv":  # a convolution returns bfloat16
        assert y.dtype == torch.float32
    assert (y - expected).abs().max() <= 0.05 * expected.abs().max()


# ------------------------------------------------------------------------------------ dependences


@each
def test_images_of_a_batch_do_not_meet_in_evaluation(sample: Sample) -> None:
    block, x = sample.build().eval(), sample.input(batch=3)
    other = x.clone()
    other[1] = 5 * torch.randn_like(x[1])
    y, y_other = block(x), block(other)
    check_same(y_other[[0, 2]], y[[0, 2]], 1e-12)
    assert sample.name == "none" or not torch.equal(y_other[1], y[1])
    check_same(block(x[:1]), y[:1], 1e-12)


@each
def test_every_parameter_is_used(sample: Sample) -> None:
    still: set[str] = {"all"}
    for seed in range(1, 4):  # the only unit of a hidden layer may be switched off by its ReLU
        if not still:
            break
        block = filled(sample.build().eval(), seed)
        block(sample.input(batch=8).requires_grad_()).square().sum().backward()
        unused = [key for key, p in block.named_parameters() if p.grad is None]
        assert not unused
        # a bias in front of a softmax or a norm cancels; a weight that has no effect is a mistake
        idle = {k for k, p in block.named_parameters() if "bias" not in k and not p.grad.any()}
        still = idle if "all" in still else still & idle
    assert not still


@each
def test_does_not_change_its_input(sample: Sample) -> None:
    for mode in (True, False):
        block, x = sample.build().train(mode), sample.input()
        before, version = x.clone(), x._version
        block(x)
        assert torch.equal(x, before)
        assert x._version == version


@each_name
def test_every_option_matters(name: str) -> None:
    """An argument that changes nothing, at any number of channels, should not be there."""
    defaults = block_arguments(name)
    idle = {
        argument: value for argument, value in options(name) if not _matters(name, argument, value)
    }
    for argument, value in idle.items():  # None stands for one of the others
        assert defaults[argument] is None, f"{argument}={value!r} does what the default does"
        assert [a for a, _ in options(name)].count(argument) > 1


def _matters(name: str, argument: str, value: Any) -> bool:
    built = False
    for channels in (*COMMON_CHANNELS, *range(1, 9)):
        try:
            plain = filled(create_block(name, channels))
            other = filled(create_block(name, channels, **{argument: value}))
        except ArgumentError:
            continue
        built = True
        shapes = [{k: v.shape for k, v in b.state_dict().items()} for b in (plain, other)]
        x = 30 * torch.randn(2, channels, 6, 5)
        if shapes[0] != shapes[1] or not torch.equal(plain(x), other(x)):
            return True
    return not built  # needs a second argument; its own test file has it


# ------------------------------------------------------------------------------ identity start


def started(sample: Sample) -> Block:
    """A fresh block that starts as the identity."""
    block = create_block(sample.name, sample.channels, **sample.arguments).double()
    block.start_as_identity()
    return block


def sizes(sample: Sample) -> list[tuple[int, ...]]:
    ndim = sample.arguments.get("ndim", 2)
    return [(6, 5, 4)[:ndim], (9,) * ndim]


@each
def test_starts_as_the_identity_or_says_why_not(sample: Sample) -> None:
    block = sample.build().eval()  # from any parameters
    if not block.can_start_as_identity():
        before = copy.deepcopy(block)
        assert re.fullmatch(r"[A-Z][^.]+\.", block.no_identity)  # one sentence
        with pytest.raises(ArgumentError, match=re.escape(block.no_identity)):
            block.start_as_identity()
        assert block.gate_scale == before.gate_scale
        check_same_state(block, before)
        return
    block.start_as_identity()
    once = copy.deepcopy(block)
    block.start_as_identity()
    assert block.gate_scale == once.gate_scale
    check_same_state(block, once)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for size in sizes(sample):
            for x in (sample.input(*size), 1e4 * sample.input(*size, batch=1)):
                assert torch.equal(block.to(dtype)(x.to(dtype)), x.to(dtype)), (dtype, size)


def check_same_state(block: nn.Module, other: nn.Module) -> None:
    pairs = zip(block.state_dict().items(), other.state_dict().items(), strict=True)
    assert all(k == k2 and torch.equal(v, v2) for (k, v), (k2, v2) in pairs)


@each_identity
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_learns_from_the_identity(sample: Sample, mode: str) -> None:
    """Each parameter has a gradient within two steps; a started block takes the state dict."""
    block, x = started(sample).train(mode == "train"), sample.input(batch=8)
    target, moved = torch.randn_like(x), set()
    for _ in range(2):
        gradients = _gradients(block, x, target)
        moved |= {key for key, gradient in gradients.items() if gradient.any()}
        with torch.no_grad():
            for key, parameter in block.named_parameters():
                parameter -= 0.1 * gradients[key]
    # a bias in front of a softmax or a norm cancels, whatever the parameters are
    anywhere = _gradients(sample.build().train(mode == "train"), x, target)
    cancels = {k for k, g in anywhere.items() if "bias" in k and g.abs().max() < 1e-12}
    assert anywhere.keys() - moved <= cancels

    fresh = started(sample).eval()
    assert torch.equal(fresh(x), x)
    fresh.load_state_dict(block.state_dict())
    assert torch.equal(fresh(x), block.eval()(x))
    assert sample.name == "none" or not torch.equal(fresh(x), x)


def _gradients(block: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    keys, parameters = [*dict(block.named_parameters())], [*block.parameters()]
    if not parameters:
        return {}
    loss = (block(x) - target).square().mean()
    return dict(zip(keys, torch.autograd.grad(loss, parameters), strict=True))


@each_name
def test_a_reason_is_stated_where_a_form_cannot_be_the_identity(name: str) -> None:
    refuses = any(sample.name == name and not sample.starts for sample in SAMPLES)
    assert refuses == bool(block_class(name).no_identity)


# -------------------------------------------------------------------------------------- gradients


@each
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradients_are_exact(sample: Sample, mode: str) -> None:
    block = sample.build(fewest=True).train(mode == "train")
    x = sample.input(*(3, 4, 2)[: sample.arguments.get("ndim", 2)], batch=3, fewest=True)
    keys = [key for key, _ in block.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(keys, parameters, strict=True)), (x,))

    inputs = [x.requires_grad_(), *(p.detach().requires_grad_() for p in block.parameters())]
    torch.autograd.gradcheck(run, inputs, fast_mode=sum(i.numel() for i in inputs) > 100)


@contextmanager
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@each
def test_deterministic(sample: Sample) -> None:
    x = sample.input(dtype=torch.float32)
    runs = []
    with deterministic():
        for _ in range(2):
            block, leaf = sample.build(dtype=torch.float32).train(), x.clone().requires_grad_()
            y = block(leaf)
            y.square().sum().backward()
            runs.append([y, leaf.grad, *(p.grad for p in block.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


# ------------------------------------------------------------------------------ copies and exports


@each
def test_copies_are_equal(sample: Sample) -> None:
    block, x = sample.build().eval(), sample.input()
    expected = block(x)
    assert torch.equal(copy.deepcopy(block)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(block))(x), expected)
    stored = io.BytesIO()
    torch.save(block.state_dict(), stored)
    stored.seek(0)
    fresh = create_block(sample.name, sample.channels, **sample.arguments).double().eval()
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    assert torch.equal(fresh(x), expected)


def other_size(sample: Sample, dtype: torch.dtype = torch.float32) -> Tensor:
    return sample.input(*(9, 4, 5)[: sample.arguments.get("ndim", 2)], batch=3, dtype=dtype)


@each
def test_jit_trace_serves_other_sizes(sample: Sample) -> None:
    block = sample.build(dtype=torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that tracing is deprecated; many still use it
        traced = torch.jit.trace(block, sample.input(dtype=torch.float32), check_trace=False)
    for x in (sample.input(dtype=torch.float32), other_size(sample)):
        check_same(traced(x), block(x), 1e-6)


# Compilers take a size of 1 for a constant. These maps are large enough that also what a block
# pools inside by 4 keeps more than one position.


@pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if not s.arguments or s.arguments.get("ndim") == 3], ids=repr
)
def test_export_with_dynamic_sizes(sample: Sample) -> None:
    block, ndim = sample.build(dtype=torch.float32).eval(), sample.arguments.get("ndim", 2)
    x = sample.input(*(12, 9, 8)[:ndim], dtype=torch.float32)
    dynamic = dict.fromkeys((0, *range(2, 2 + ndim)), torch.export.Dim.DYNAMIC)
    program = torch.export.export(block, (x,), dynamic_shapes=(dynamic,)).module()
    for tried in (x, sample.input(*(9, 17, 10)[:ndim], batch=3, dtype=torch.float32)):
        check_same(program(tried), block(tried), 1e-6)


@each_default
def test_compiles_once_for_all_sizes(sample: Sample) -> None:
    compilations = 0

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        nonlocal compilations
        compilations += 1
        return graph.forward

    torch.compiler.reset()
    block = sample.build(dtype=torch.float32).train()
    compiled = torch.compile(copy.deepcopy(block), fullgraph=True, backend=count, dynamic=True)
    for batch, size in ((2, (12, 9)), (3, (21, 18))):  # the second may widen what was assumed
        compiled(sample.input(*size, batch=batch, dtype=torch.float32))
    warm = compilations
    for batch, size in ((4, (9, 13)), (5, (17, 10))):
        x = sample.input(*size, batch=batch, dtype=torch.float32)
        check_same(compiled(x), block(x), 1e-5)
    assert compilations == warm


# ------------------------------------------------------------------------------- what goes wrong


@each_default
@pytest.mark.parametrize(
    ("bad", "fix"),
    [
        (lambda x: x[0], r"unsqueeze\(0\)"),
        (lambda x: x.long(), r"x\.float\(\)"),
        (lambda x: np.asarray(x), r"torch\.from_numpy"),
        (lambda x: x.tolist(), r"torch\.Tensor"),
        (lambda x: x[:, :, :0], r"at least one"),
        (lambda x: torch.cat((x, x, x), 1), r"channels="),
        (lambda x: x.double(), r"torch\.autocast"),
    ],
    ids=["no batch", "integer", "numpy", "list", "empty map", "channels", "dtype"],
)
def test_wrong_input(sample: Sample, bad: Callable[[Tensor], Any], fix: str) -> None:
    block, x = sample.build(dtype=torch.float32), sample.input(dtype=torch.float32)
    if "autocast" in fix and not [*block.parameters()]:
        pytest.skip("no parameters, so any floating type fits")
    with pytest.raises(InputError, match=fix):
        block(bad(x))


@each_name
def test_unknown_argument(name: str) -> None:
    with pytest.raises(ArgumentError, match="nonsense"):
        create_block(name, _any_channels(name), nonsense=1)


@each_name
@pytest.mark.parametrize("channels", [0, -1, 1.5, "a", True], ids=repr)
def test_wrong_channels(name: str, channels: Any) -> None:
    with pytest.raises(ArgumentError, match="channels"):
        create_block(name, channels)


@each_name
def test_smallest_number_of_channels(name: str) -> None:
    """Fewer channels than the stated minimum are refused by name, the minimum works."""
    least = block_class(name).info.min_channels
    assert Sample(name).fewest_channels == least
    for channels in range(1, least):
        with pytest.raises(ArgumentError, match=rf"\b{least}\b"):
            create_block(name, channels)


@each_name
def test_refuses_numbers_of_channels_by_name(name: str) -> None:
    """Between the minimum and 130 a block is built, or the error says what to use."""
    for channels in range(block_class(name).info.min_channels, 130):
        refusal = ""
        try:
            create_block(name, channels)
        except ArgumentError as error:
            refusal = str(error)
        assert not refusal or re.search(r"[Uu]se|must", refusal), refusal


WRONG: dict[str, tuple[Any, ...]] = {
    "int": (0, -1, 1.5, "a", True, 2.0),
    "float": ("a", None, True, float("nan"), float("inf")),
    "str": ("?", 3),
    "tuple": ("a", 3, ()),
}


@each_name
def test_wrong_options(name: str) -> None:
    """Arguments of a wrong kind are refused by an error of ours that names them."""
    for argument in inspect.signature(block_class(name)).parameters.values():
        kind = str(argument.annotation).partition("[")[0]
        wrong = WRONG.get(kind, ())
        if argument.name == "channels":
            continue
        for value in wrong:
            if value == argument.default and value == 0:  # which may have a meaning
                continue
            with pytest.raises(ConvattnError, match=argument.name):
                create_block(name, _any_channels(name), **{argument.name: value})


# -------------------------------------------------------------------------------------- dimensions


@each_name
def test_a_reason_is_stated_where_the_map_must_have_two_axes(name: str) -> None:
    reason = block_class(name).info.two_axes
    assert bool(reason) != ("ndim" in block_arguments(name))
    assert not reason or re.fullmatch(r"[A-Z].+\.", reason)


AXES = {1: "l", 2: "hw", 3: "dhw"}
each_ndim = pytest.mark.parametrize("name", [n for n in NAMES if "ndim" in block_arguments(n)])


@each_ndim
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_first_axis_of_length_one_changes_nothing(name: str, mode: str, ndim: int) -> None:
    """Depth 1 is a 2-D map, and one row a 1-D one; strips of that axis are left out."""
    first, others = AXES[ndim][0], AXES[ndim][1:]
    alone = {"axes": others} if "axes" in block_arguments(name) else {}
    flat = Sample(name, ndim=ndim - 1).build().train(mode == "train")
    deep = Sample(name, ndim=ndim, **alone).build().train(mode == "train")
    known = flat.state_dict()
    with torch.no_grad():
        for key, value in deep.state_dict().items():
            shorter = key.removeprefix(first)
            if ndim == 2:
                shorter = re.sub(r"(^|_)w\b", r"\1l", shorter)
            source = known.get(key, known.get(shorter))
            if source is None:  # what only the first axis has matters nothing where it is short
                continue
            if value.dim() == source.dim() + 1:  # the shorter kernel is the middle of the other
                value.zero_()[:, :, value.shape[2] // 2] = source
            else:
                value.copy_(source)
    x = Sample(name, ndim=ndim - 1).input()
    check_same(deep(x.unsqueeze(2)).squeeze(2), flat(x))


def _named_for_axes(key: str, a: str, b: str) -> str:
    """The key of what does for axis b what that of `key` does for axis a, and the other way."""
    turned = str.maketrans(a + b, b + a)
    places = {str(AXES[3].index(a)): str(AXES[3].index(b))}
    places |= {v: k for k, v in places.items()}
    key = re.sub(r"(?<=_)[dhw]\b", lambda m: m[0].translate(turned), key)
    key = re.sub(r"\A((?:convs|norms)\.)(\d)", lambda m: m[1] + places.get(m[2], m[2]), key)
    if re.match(r"[cdhw]{3}\.", key):  # gates three of the four axes, C in place of the fourth
        [pooled] = {*"cdhw"} - {*key[:3]}
        key = AXES[3].replace(pooled.translate(turned), "c") + key[3:]
    return key


@each_ndim
@pytest.mark.parametrize("other", ["h", "w"])
def test_three_axes_have_equal_rights(name: str, other: str) -> None:
    """Exchanging two axes of the map and of all weights exchanges them in the output."""
    options = {"subsample": "none"} if name == "non_local" else {}  # it does not pool the first
    block = Sample(name, ndim=3, **options).build().eval()
    turned, axis = copy.deepcopy(block), 2 + AXES[3].index(other)
    weights = {
        key: value.transpose(2, axis) if value.dim() == 5 else value
        for key, value in block.state_dict().items()
    }
    with torch.no_grad():
        for key, value in turned.state_dict().items():
            source = weights.get(_named_for_axes(key, "d", other))
            if source is None or source.shape != value.shape:  # branches that are not axes
                source = weights[key]
            value.copy_(source)
    x = Sample(name, ndim=3).input()
    check_same(turned(x.transpose(2, axis)).transpose(2, axis), block(x))


@pytest.mark.parametrize("name", [n for n in NAMES if block_class(n).family == "conv"])
def test_conv_blocks_change_channels_and_size(name: str) -> None:
    sample = Sample(name)
    channels = sample.channels
    block = create_block(name, channels, out_channels=2 * channels, stride=2)
    assert block(torch.randn(2, channels, 7, 6)).shape == (2, 2 * channels, 4, 3)


# ------------------------------------------------------------ what the mathematics of each promises


def _gates_at_most_one(block: nn.Module, x: Tensor) -> None:
    assert (block(x).abs() <= x.abs()).all()


def _permuting_positions_permutes(block: nn.Module, x: Tensor) -> None:
    order = torch.randperm(x[0, 0].numel())
    y = block(x).flatten(2)[..., order]
    check_same(block(x.flatten(2)[..., order].view_as(x)).flatten(2), y)


def _permuting_rows_permutes(block: nn.Module, x: Tensor) -> None:
    order = torch.randperm(x.shape[2])
    check_same(block(x[:, :, order]), block(x)[:, :, order])


def _transpose_exchanges_branches(block: nn.Module, x: Tensor) -> None:
    other = copy.deepcopy(block)
    other.conv_h, other.conv_w = other.conv_w, other.conv_h
    check_same(other(x.transpose(2, 3)), block(x).transpose(2, 3))


def _transpose_exchanges_planes(block: nn.Module, x: Tensor) -> None:
    other = copy.deepcopy(block)
    other.cw, other.hc = other.hc, other.cw
    with torch.no_grad():
        for branch in (other.cw, other.hc, other.hw):
            branch.conv.weight.copy_(branch.conv.weight.mT.clone())
    check_same(other(x.transpose(2, 3)), block(x).transpose(2, 3))


def _adding_a_constant_keeps_the_gates(block: nn.Module, x: Tensor) -> None:
    check_same(block.gates(x + 3)[0], block.gates(x)[0])


INVARIANCES: dict[str, tuple[Callable[[nn.Module, Tensor], None], ...]] = {
    "ca": (_gates_at_most_one, _permuting_rows_permutes, _transpose_exchanges_branches),
    "cbam": (_gates_at_most_one,),
    "ema": (_gates_at_most_one,),
    "ela": (_gates_at_most_one,),
    "fca": (_gates_at_most_one,),
    "sa": (_permuting_positions_permutes,),
    "sge": (_gates_at_most_one, _permuting_positions_permutes),
    "simam": (
        _gates_at_most_one,
        _permuting_positions_permutes,
        _adding_a_constant_keeps_the_gates,
    ),
    "srm": (_gates_at_most_one, _permuting_positions_permutes),
    "eca": (_gates_at_most_one, _permuting_positions_permutes),
    "se": (_gates_at_most_one, _permuting_positions_permutes),
    "simple_ca": (_gates_at_most_one, _permuting_rows_permutes),
    "strip": (_gates_at_most_one,),
    "triplet": (_gates_at_most_one, _transpose_exchanges_planes),
}


@pytest.mark.parametrize(
    ("name", "promise"),
    [(name, promise) for name, promises in INVARIANCES.items() for promise in promises],
    ids=lambda value: value if isinstance(value, str) else value.__name__.strip("_"),
)
def test_promise(name: str, promise: Callable[[nn.Module, Tensor], None]) -> None:
    promise(Sample(name).build().eval(), Sample(name).input())
