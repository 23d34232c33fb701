"""What another implementation does and ours does not, or the other way: no weights are shared."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from convattn.doctor.dependence import DEPENDENCES
from convattn.doctor.matching import filled
from convattn.doctor.patient import Patient, noise, outputs
from convattn.doctor.report import Finding
from convattn.doctor.trace import LOGISTIC, Trace

__all__ = ["compare_behaviour"]

MAXIMA = frozenset((
    "max", "amax", "max_pool2d_with_indices", "adaptive_max_pool2d", "topk", "sort",
    "max_pool1d",
))  # fmt: skip
RECTIFIERS = frozenset((
    "relu", "relu_", "clamp_min", "clamp", "clamp_min_", "threshold", "hardtanh", "relu6",
))  # fmt: skip


def compare_behaviour(theirs: Patient, ours: Patient, authors: str) -> list[Finding]:
    """Differences in what the blocks depend on, in their bounds, in their operators.

    Args:
        theirs: the implementation, with random parameters.
        ours: our block, likewise.
        authors: how the findings call the definition.
    """
    found = []
    for check in (_bounds, _operators, *DEPENDENCES):
        found += [*check(theirs, ours, authors)]
    return found


# ------------------------------------------------------------------------------------------ bounds


def _bounds(theirs: Patient, ours: Patient, authors: str) -> Iterator[Finding]:
    a, b = _factors(theirs), _factors(ours)
    if a is None or b is None:
        return
    low, high = a
    inside = b[0] >= 0 and b[1] <= 1
    if not inside or (low >= -1e-6 and high <= 1 + 1e-6):
        return
    if low >= 1 - 1e-6 and high <= 2 + 1e-6:
        yield Finding(
            "extra-residual",
            "error",
            "",
            f"The output is x + x * gate: between 1 and 2 times the input, where {authors} has "
            "x * gate, never more than the input.",
            "Return x * gate alone; the shortcut belongs to the network round the block.",
        )
    elif not theirs.trace.names & set(LOGISTIC):
        yield Finding(
            "missing-gate",
            "error",
            "",
            f"There is no sigmoid: the map is multiplied by factors from {low:.2g} to {high:.2g}, "
            f"where {authors} has gates between 0 and 1.",
            "Put torch.sigmoid round what the map is multiplied by.",
        )
    else:
        yield Finding(
            "unbounded",
            "error",
            "",
            f"The map is multiplied by factors from {low:.2g} to {high:.2g}, where {authors} has "
            "gates between 0 and 1.",
            "Look for a sum with the input, or a factor outside the sigmoid.",
        )


def _factors(patient: Patient) -> tuple[float, float] | None:
    """Least and greatest y / x over several random parameters."""
    low, high = float("inf"), float("-inf")
    for seed in range(3):
        model = filled(patient.fresh(), scale=2.0, seed=seed + 2)
        x = noise(*patient.x.shape, seed=seed, dtype=patient.x.dtype)
        with torch.no_grad():
            y = outputs(model, x.clone())[0]
        if y.shape != x.shape:
            return None
        ratio = (y / x)[x.abs() > 0.1]
        low, high = min(low, float(ratio.min())), max(high, float(ratio.max()))
    return low, high


# --------------------------------------------------------------------------------------- operators


def _operators(theirs: Patient, ours: Patient, authors: str) -> Iterator[Finding]:
    a, b = theirs.trace, ours.trace
    if _rectified(a) and not _rectified(b):
        yield Finding(
            "relu-before-sigmoid",
            "error",
            "",
            "A ReLU runs in front of the sigmoid: no gate is ever below one half.",
            "Remove the activation between the last layer or norm and the sigmoid.",
        )
    soft = [call for call in a.calls if "softmax" in call.name]
    if any("softmax" in name for name in b.names) and not soft:
        yield Finding(
            "missing-softmax",
            "error",
            "",
            f"There is no softmax, which {authors} normalises its weights with.",
            "Use torch.softmax over the positions; write x = softmax(x), it is not in place.",
        )
    for call in soft:
        axis = call.args[1] if len(call.args) > 1 else -1
        if isinstance(axis, int) and call.args[0] and call.args[0][axis] == 1:
            yield Finding(
                "void-softmax",
                "error",
                call.path,
                "A softmax runs over an axis of length 1: its result is 1 everywhere.",
                "Flatten the positions to one axis and take softmax(dim=-1) over them.",
            )
            break
    if b.names & MAXIMA and not a.names & MAXIMA:
        yield Finding(
            "missing-branch",
            "error",
            "",
            f"Nothing is pooled by maximum, as {authors} does.",
            "Add the pooling by maximum, with the same layers behind it as the mean.",
        )


def _rectified(trace: Trace) -> bool:
    return any(c.name in LOGISTIC and set(c.sources) & RECTIFIERS for c in trace.calls)
