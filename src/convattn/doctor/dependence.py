"""What the output of a block at one place knows of another: compared between theirs and ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from convattn.blocks._base import ConvBlock
from convattn.doctor.matching import filled
from convattn.doctor.patient import Patient, close, noise, outputs
from convattn.doctor.report import Finding

__all__ = ["DEPENDENCES"]

LARGE = 16  # of the maps on which a far position is changed, beyond the reach of convolutions
FILLS = (1, 2, 3)

Change = Callable[[Tensor], Tensor]


def constant_maps(theirs: Patient, ours: Patient, authors: str) -> Iterator[Finding]:
    """A pooling with weights that add up to 1 does not know how large a constant map is."""
    kernels = [m.kernel_size for m in theirs.model.modules() if isinstance(m, nn.Conv2d)]
    if any(max(kernel) >= LARGE for kernel in kernels):  # would see the map's border
        return
    if _knows_the_size(theirs) is True and _knows_the_size(ours) is False:
        yield Finding(
            "unnormalised-pooling",
            "error",
            "",
            "On maps that hold one constant, the output depends on how large the map is: weights "
            f"of a pooling do not add up to 1, as those of {authors} do.",
            "Normalise them: a softmax over the positions, or a mean instead of a sum.",
        )


def _knows_the_size(patient: Patient) -> bool | None:
    seen = []
    for size in (LARGE, LARGE + 8):
        x = torch.ones_like(patient.x[:, :, :1, :1]).expand(-1, -1, size, size)
        y = _try(patient.model, x)
        if y is None:
            return None
        seen.append(y[:, :, size // 2 : size // 2 + 1, size // 2 : size // 2 + 1])
    return not close([seen[0]], [seen[1]], 1e-6)


def positions(theirs: Patient, ours: Patient, authors: str) -> Iterator[Finding]:
    """What the output at one corner knows of the opposite one."""
    shapes = {"tall": (24, LARGE), "wide": (LARGE, 24), "square": (LARGE, LARGE)}
    ignores = [
        name
        for name, size in shapes.items()
        if _reaches(theirs, size, _raised) is False and _reaches(ours, size, _raised)
    ]
    if ignores and "square" not in ignores:
        yield Finding(
            "partial-map",
            "error",
            "",
            f"On {' and '.join(ignores)} maps a part of the map is never looked at: changing the "
            "far corner changes nothing, where on squares it does.",
            "Pool with kernel (H, W) from x.shape, or x.mean((2, 3)), not with one side for both.",
        )
    elif ignores:
        yield Finding(
            "missing-branch",
            "error",
            "",
            f"A corner of the output does not depend on the opposite one; with {authors} it does.",
            "Add the pooling, or the pass, that brings every position to every other.",
        )
        return
    square = shapes["square"]
    spread = [_reaches(each, square, _spread) for each in (theirs, ours)]
    if spread == [False, True]:
        yield Finding(
            "missing-branch",
            "error",
            "",
            f"Only means matter. {authors} also looks at the maximum or another statistic: with "
            "equal row, column and channel means its output still changes.",
            "Use the result of the second pooling; do not add the same one twice.",
        )
    elif spread == [True, False] and not isinstance(ours.model, ConvBlock):
        yield Finding(
            "extra-branch",
            "error",
            "",
            f"Values matter whose row, column and channel means are equal, where {authors} uses "
            "these means alone.",
            "Pool by mean alone.",
        )


def _raised(x: Tensor) -> Tensor:
    """The far corner raised by much."""
    x = x.clone()
    x[:, :, -1, -1] += 50.0
    return x


def _spread(x: Tensor) -> Tensor:
    """The far corner changed, every mean over a row, a column or the map kept."""
    x = x.clone()
    x[:, :, -3:, -3:] += 50.0 * torch.tensor([[1.0, 0, -1], [0, 0, 0], [-1, 0, 1]]).to(x)
    return x


def _reaches(patient: Patient, size: tuple[int, int], change: Change) -> bool | None:
    """Whether the output at the first position changes; None if the size does not run."""
    x = noise(2, patient.x.shape[1], *size, dtype=patient.x.dtype)
    return _matters(patient, x, change(x), (..., slice(1), slice(1)))


def _matters(patient: Patient, x: Tensor, changed: Tensor, where: tuple[Any, ...]) -> bool | None:
    """Whether the output there differs, with any of some random parameters; None on an error.

    With one set of parameters a ReLU may hide what depends on what.
    """
    for seed in FILLS:
        model = filled(patient.fresh(), seed=seed)
        a, b = _try(model, x), _try(model, changed)
        if a is None or b is None:
            return None
        if not close([a[where]], [b[where]], 1e-9):
            return True
    return False


def lines(theirs: Patient, ours: Patient, authors: str) -> Iterator[Finding]:
    """Which rows and columns of the output change as a whole when one value of the map does."""
    seen = [_lines(theirs), _lines(ours)]
    if seen[0] is None or seen[1] is None:
        return
    (rows, columns), (our_rows, our_columns) = seen[0], seen[1]
    row, column = _PLACE
    if (column in rows and column not in our_rows) or (row in columns and row not in our_columns):
        yield Finding(
            "swapped-axes",
            "error",
            "",
            f"One value changed in row {row}, column {column} changes all of row {column} or of "
            f"column {row}: a gate per row is made from the columns, or the other way; with "
            f"{authors} it changes its own row and column.",
            "Follow each strip from its mean to its gate: the mean over W is the rows', the mean "
            "over H the columns'; split after H of the concatenated strips, and transpose back.",
        )
        return
    for name, here, there, place in (
        ("row", rows, our_rows, row),
        ("column", columns, our_columns, column),
    ):
        if place in there and place not in here:
            yield Finding(
                "missing-branch",
                "error",
                "",
                f"One value changed does not change its {name}; with {authors} it does.",
                f"Multiply by the gate per {name} too.",
            )


_PLACE = (4, 18)  # row and column of the value, farther apart than convolutions reach
_SIDE = 24


def _lines(patient: Patient) -> tuple[set[int], set[int]] | None:
    """Rows and columns that change at every position, with some random parameters."""
    x = noise(2, patient.x.shape[1], _SIDE, _SIDE, dtype=patient.x.dtype)
    raised = x.clone()
    raised[:, :, _PLACE[0], _PLACE[1]] += 50.0
    changed = torch.zeros(_SIDE, _SIDE, dtype=torch.bool)
    for seed in FILLS:
        model = filled(patient.fresh(), seed=seed)
        a, b = _try(model, x), _try(model, raised)
        if a is None or b is None or a.shape != x.shape or b.shape != x.shape:
            return None
        changed |= ((a - b).abs() > 1e-9 * a.abs().mean()).flatten(0, 1).any(0)
    rows, columns = changed.all(1), changed.all(0)
    return set(rows.nonzero().flatten().tolist()), set(columns.nonzero().flatten().tolist())


def channels(theirs: Patient, ours: Patient, authors: str) -> Iterator[Finding]:
    """Whether the first channel knows of the last."""
    x = noise(*theirs.x.shape, seed=3, dtype=theirs.x.dtype)
    changed = x.clone()
    changed[:, -1] += 5
    mixes = [_matters(each, x, changed, (slice(None), slice(1))) for each in (theirs, ours)]
    if None in mixes:
        return
    if mixes[0] != mixes[1]:
        does, does_not = ("It changes", "does not") if mixes[0] else ("It does not change", "does")
        yield Finding(
            "channel-mixing",
            "error",
            "",
            f"The first channel of the output, when the last of the input changes: {does}; with "
            f"{authors} it {does_not}.",
            "Compare which channels the layers mix: one kernel across neighbours, all, or none.",
        )


def _try(model: nn.Module, x: Tensor) -> Tensor | None:
    try:
        with torch.no_grad():
            ys = outputs(model, x.clone())
    except Exception:
        return None
    return ys[0] if ys and ys[0].dim() == 4 else None


DEPENDENCES = (constant_maps, positions, lines, channels)
