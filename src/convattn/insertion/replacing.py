"""`replace`: other modules make room for blocks, as EfficientNet's SE for CA."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace as changed
from typing import Any, TypeVar

from torch import nn

from convattn.blocks import block_class, block_names
from convattn.blocks._base import Block
from convattn.core.errors import ArgumentError, UnknownNameError
from convattn.insertion.flow import Flow
from convattn.insertion.inserting import apply_work, check_host, kept_random_state
from convattn.insertion.places import At, Place, find_places
from convattn.insertion.planning import Args, own_arguments, prepare
from convattn.insertion.probe import Probe, probe
from convattn.insertion.trace import Call

__all__ = ["replace", "squeeze_excites"]

Host = TypeVar("Host", bound=nn.Module)


def replace(
    host: Host,
    old: str | type[nn.Module] | Callable[[str, nn.Module], bool],
    new: str,
    *,
    init: str = "authors",
    stages: Iterable[int] | None = None,
    where: Callable[[Place], bool] | None = None,
    args: Args | None = None,
    input_size: Sequence[int] | None = None,
    inputs: Any = None,
    **arguments: Any,
) -> Host:
    """Put a new block in place of modules; `remove` brings them back.

    Args:
        host: any network.
        old: "se" for anybody's squeeze-and-excitation, found by what it does; the name of another
            block of ours; a class; or paths as `at` of `insert` takes them.
        new: name of the block. One that stands in for a convolution takes its channels and
            stride from the convolution.
        init: "authors", or "identity": the new block returns its input at first.
        stages: only these.
        where: only places for which it returns True.
        args: the blocks' arguments by place or by stage.
        input_size: of the host's image, (N, C, H, W).
        inputs: instead, the tuple of arguments that the host takes.
        **arguments: of the block, the same for all.

    Returns:
        The host itself.

    Raises:
        UnknownNameError: no such block, or nothing of that kind in the host.
        ArgumentError: an argument that cannot be, or a module whose output has another size than
            its input.
        InputError: the host fails on the input, or a place has no feature map.

    Example:
        >>> import torchvision
        >>> from convattn import find, replace
        >>> model = torchvision.models.efficientnet_b0()
        >>> len(find(replace(model, old="se", new="ca", reduction=32)))
        16
    """
    check_host(host)
    kind = block_class(new)
    with kept_random_state():
        probed = probe(host, input_size, inputs)
        at = _at(host, probed, old)
        found = find_places(host, probed.twin, probed.trace, at, stages, where)
        strides = {}
        for i, place in enumerate(found):
            found[i], strides[place.path] = _as_input(place, probed, kind)

        def own(place: Place) -> dict[str, Any]:
            return {**strides[place.path], **own_arguments(place, args, found)}

        work = prepare(host, probed, found, new, init, own, arguments)
        apply_work(host, work)
    return host


def _as_input(place: Place, probed: Probe, kind: type[Block]) -> tuple[Place, dict[str, int]]:
    """The place with the channels and sizes of what goes in, and what a convolution needs more."""
    trace, path = probed.trace, place.path
    calls = trace.calls_of(probed.twin.get_submodule(path))
    before = [trace.shapes[c.inputs[0]] for c in calls if c.inputs]
    after = [trace.shapes[c.output] for c in calls if c.output is not None]
    shown = f"{path} ({place.module})"
    if len(before) != len(after) or any(len(shape) != len(after[0]) for shape in before):
        raise ArgumentError(f"{shown} does not take one feature map, and a block does")
    inner = changed(place, way="swap", channels=before[0][1], sizes=tuple(s[2:] for s in before))
    if kind.family == "conv":
        stride = round(before[0][2] / after[0][2])
        return inner, {"out_channels": after[0][1], "stride": stride}
    if before != after:
        raise ArgumentError(
            f"{shown} turns {before[0]} into {after[0]}, and {kind.__name__} keeps the shape; "
            "only a block that stands in for a convolution can replace it"
        )
    return inner, {}


def _at(host: nn.Module, probed: Probe, old: Any) -> At:
    """What `find_places` is asked for, so that its errors are the same everywhere."""
    if isinstance(old, type):
        kind, shown = old, f"module of the class {old.__name__}"
        paths = [path for path, module in host.named_modules() if type(module) is kind]
        paths = paths or [path for path, module in host.named_modules() if isinstance(module, kind)]
    elif isinstance(old, str) and old in ("se", "ese"):
        shown = "squeeze-and-excitation"
        paths = squeeze_excites(Flow(probed.trace), layers=(1,) if old == "ese" else (1, 2))
    elif isinstance(old, str) and old.lower() in block_names():
        kind, shown = block_class(old), f"block {old!r} of convattn"
        paths = [path for path, module in host.named_modules() if isinstance(module, kind)]
    else:
        return old
    if not paths:
        kinds = sorted({type(m).__name__ for m in host.modules() if next(m.children(), None)})
        raise UnknownNameError(
            f"{type(host).__name__} has no {shown} to replace; its classes are "
            f"{', '.join(kinds) or 'torch.nn only'}. Name modules by path or class with old=..., "
            "or add blocks with convattn.insert"
        )
    chosen = set(paths)
    return lambda path, module: path in chosen


def squeeze_excites(flow: Flow, layers: tuple[int, ...] = (1, 2)) -> list[str]:
    """Paths of modules that multiply their map by gates made from its mean by so many layers."""
    found = [c for c in flow.trace.calls if c.path and _squeezes(flow, c, layers)]
    inner = [c for c in found if not any(d.parent == c.index for d in found)]
    return list(dict.fromkeys(c.path for c in inner if c.path))


def _squeezes(flow: Flow, call: Call, layers: tuple[int, ...]) -> bool:
    trace = flow.trace
    if len(call.inputs) != 1 or call.output is None or call.end <= call.start:
        return False
    given = call.inputs[0]
    if not flow.is_map(given) or trace.shapes[given] != trace.shapes[call.output]:
        return False
    ops = trace.ops[call.start : call.end]
    products = [op for op in ops if op.is_product]
    # a kernel over neighbouring channels (ECA) has a weight of three axes, or is a vector
    mixing = all(op.name in ("mm", "addmm") or flow.is_1x1(op) for op in products)
    pooled = [op for op in ops if op.name == "mean" or "avg_pool" in op.name]
    last = trace.maker[call.output]
    return (
        len(products) in layers
        and mixing
        and all(_is_pooled(flow, op.outputs[0]) for op in products)
        and len(pooled) == 1
        and len(pooled[0].inputs) == 1
        and flow.viewed(pooled[0].inputs[0]) == given
        and call.start <= last < call.end
        and trace.ops[last].name == "mul"
        and given in trace.ops[last].inputs
    )


def _is_pooled(flow: Flow, value: int) -> bool:
    return not flow.is_map(value) or flow.area(value) == 1
