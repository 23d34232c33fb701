"""`fold`: the doubled gates of an identity start become plain ones, for export."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from convattn.blocks._base import Block
from convattn.core.errors import ArgumentError
from convattn.insertion.flow import Flow
from convattn.insertion.inserting import check_host
from convattn.insertion.probe import probe
from convattn.insertion.scaling import Factors, Scaling, Stuck
from convattn.insertion.surgery import mark_of
from convattn.insertion.trace import Call

__all__ = ["fold"]

Host = TypeVar("Host", bound=nn.Module)

_MOST = Fraction(2**10)  # blocks along one shortcut add up, and float16 ends at 2^16


def fold(
    model: Host,
    *,
    strict: bool = False,
    input_size: Sequence[int] | None = None,
    inputs: Any = None,
) -> Host:
    """Make the doubled gates of blocks that started as the identity plain, and outputs the same.

    Such a block multiplies by 2 * sigmoid. The 2 moves into weights: into the convolutions, linear
    layers and batch norms behind the block, or, where a shortcut is added first, into those before
    it and into the block's own first layers. Behind it the block is the authors', with
    `gate_scale` 1, and nothing is left to be computed for the start. Twos change no digit, so that
    eval outputs are equal bit for bit (BAM, whose gates are 2/3 * (1 + sigmoid): up to rounding).

    Do this last: in training mode outputs differ, and `remove` no longer gives the host back.
    `insertions` records a folded model for `rebuild`, and its state dict fits there.

    Args:
        model: with blocks; changed in place.
        strict: refuse, with reasons, where the 2 of some block cannot move, and change nothing.
            Else such a block keeps it: `find(model)` has each block's `gate_scale`.
        input_size: of the model's image, (N, C, H, W); None tries 224 and other usual sizes.
        inputs: instead, the tuple of arguments that the model takes.

    Returns:
        The model itself.

    Raises:
        ArgumentError: `strict`, and a block's factor has no place to go.
        InputError: the model fails on the input.

    Example:
        >>> from convattn import create_model, find, fold, insert
        >>> model = insert(create_model("mobilenet_v2"), "ca", at="after_depthwise")
        >>> {found.gate_scale for found in find(model)}, {f.gate_scale for f in find(fold(model))}
        ({2.0}, {1.0})
    """
    check_host(model)
    blocks = {p: m for p, m in model.named_modules() if isinstance(m, Block) and m.gate_scale != 1}
    if not blocks:
        return model
    probed = probe(model, input_size, inputs)
    markers = {path: _mark_gates(probed.twin.get_submodule(path)) for path in blocks}
    flow = Flow(probed.run_again())
    names = frozenset(name for name, _ in model.named_parameters())
    found: dict[str, dict[str, Fraction]] = {}
    refused: dict[str, str] = {}
    moved: Factors = {}
    for path, block in blocks.items():
        calls = flow.trace.calls_of(markers[path])
        gates = {c.output: 1 / _doubling(block) for c in calls if c.output is not None}
        scaling = Scaling(flow, names, gates)
        try:
            whole = flow.trace.calls_of(probed.twin.get_submodule(path))
            found[path], moved = _solve(scaling, whole, moved)
        except Stuck as stuck:
            refused[path] = str(stuck)
    if strict and refused:
        shown = "; ".join(f"{path}: {reason}" for path, reason in refused.items())
        raise ArgumentError(
            f"fold: {len(refused)} of {len(blocks)} blocks of {type(model).__name__} have nowhere "
            f"to leave their factor: {shown}. strict=False folds the others"
        )
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for path, factors in found.items():
            for name, factor in factors.items():
                tensors[name].mul_(float(factor))
            del blocks[path].gate_scale
            mark = mark_of(blocks[path])
            if mark is not None:
                mark.init = "folded"
    return model


def _solve(
    scaling: Scaling, calls: list[Call], moved: Factors
) -> tuple[dict[str, Fraction], Factors]:
    """The change of fewest weights: behind the block, or before it and in it.

    Args:
        scaling: with the factors of the block's gates.
        calls: of the block.
        moved: factors that values have from other blocks.

    Returns:
        Factors of weights by name, and `moved` with those of this block.
    """
    if not calls:
        raise Stuck("it is not called")
    solutions: list[tuple[dict[str, Fraction], Factors]] = []
    reasons = []
    for side, pins in (("behind", dict), ("before", lambda: _inputs(scaling, calls))):
        try:
            weights, values = scaling.solve(pins())
            total = {**moved, **{v: f * moved.get(v, 1) for v, f in values.items()}}
            if any(not 1 / _MOST <= f <= _MOST for f in total.values()):
                raise Stuck(f"values would grow or shrink by more than {_MOST}")
            solutions.append((weights, total))
        except Stuck as stuck:
            reasons.append(f"{side} it, {stuck}")
    if not solutions:
        raise Stuck(", and ".join(reasons))
    return min(solutions, key=lambda solution: len(solution[0]))


def _inputs(scaling: Scaling, calls: list[Call]) -> Factors:
    """Factors of the maps that go in, so that those that come out have none."""
    pins: Factors = {}
    for call in calls:
        factors, _ = scaling.sweep({}, call.end)
        if call.output is None or not call.inputs:
            raise Stuck("it returns no map")
        pins[call.inputs[0]] = 1 / factors.get(call.output, Fraction(1))
    return pins


def _mark_gates(block: nn.Module) -> nn.Module:
    """Let a stand-in's gates pass a module, whose calls then tell their numbers."""
    assert isinstance(block, Block)
    marker, gate = nn.Identity(), block.gate

    def marked(logits: Tensor) -> Tensor:
        gates: Tensor = marker(gate(logits))
        return gates

    vars(block)["gate"] = marked
    return marker


def _doubling(block: Block) -> Fraction:
    """What the block's gates are multiplied by: 2, or 2/3 for BAM's 1 + sigmoid."""
    plain = copy.copy(block)
    plain.gate_scale = 1.0
    logit = torch.zeros((), dtype=torch.float64)
    return Fraction(float(block.gate(logit) / plain.gate(logit))).limit_denominator(64)
