"""Compare anybody's implementation of a block with the authors' definition."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convattn.blocks import block_class, create_block
from convattn.core.errors import ArgumentError, ConvattnError
from convattn.doctor.behaviour import compare_behaviour
from convattn.doctor.health import CHECKS, examine, quiet
from convattn.doctor.matching import Form, filled
from convattn.doctor.numbers import compare_numbers
from convattn.doctor.patient import Patient, error_text, noise
from convattn.doctor.report import Finding, Report, grouped
from convattn.doctor.target import NotConstructibleError, Target, find_target

__all__ = ["audit"]

HEALTH = tuple(name for name in CHECKS if name != "gates")  # parameters are random here
CHANNELS = (64, 32, 128, 256)
# (8, 6) says most; the others are for what runs on squares, or on one size, only
SIZES = ((8, 6), (8, 8), (7, 7), (14, 14), (16, 16), (32, 32), (56, 56), (64, 64))


def audit(
    target: str | nn.Module | type[nn.Module],
    as_: str = "ca",
    *,
    arguments: Mapping[str, Any] | None = None,
    attention_args: Mapping[str, Any] | None = None,
) -> Report:
    """Say where an implementation differs from a block of ours, which equals its authors' code.

    Both get the same weights where their layers agree, and their outputs are compared; where they
    do not, or the outputs differ, known mistakes are tried until one explains it. Besides, both
    are run on inputs that tell them apart whatever their weights are.

    Args:
        target: "path/to/file.py:Class", a class, or a module. A file is imported, so its code
            runs: audit only what you would run.
        as_: our block's name.
        arguments: of the class's constructor; those for channels and sizes are found by name.
        attention_args: of our block, such as {"variant": "timm"}, where the definition meant is
            not the authors' default.

    Returns:
        Findings, each with its fix. `report.ok` says that nothing differs but defaults.

    Raises:
        UnknownNameError: no such block.
        DataNotFoundError: no such file.
        ArgumentError: the file has no such class, or the class needs an argument that its name
            does not explain.
    """
    asked = dict(attention_args or {})
    block_class(as_)
    found = find_target(target, arguments)
    authors = f"{as_}({', '.join(f'{k}={v!r}' for k, v in asked.items())})" if asked else as_
    subject = f"{found.title} as {authors}"
    with quiet():
        try:
            channels, theirs = _first_that_runs(found, as_, asked)
        except NotConstructibleError as error:
            fix = "Run the constructor alone and mend what the error names."
            return _alone(subject, "not-constructible", f"The constructor fails: {error}", fix)
        except _DoesNotRunError as error:
            fix = "It must run as block(x) with x (N, C, H, W), and return (N, C, H, W)."
            return _alone(subject, "does-not-run", f"The forward fails on every size: {error}", fix)
        size = theirs.x.shape[2:]
        made = filled(create_block(as_, channels, **asked))
        ours = Patient.admit(made, noise(2, channels, *size, dtype=torch.float64))
        findings = [*_health(theirs, ours), *_sizes(theirs, found), *_out_channels(found, channels)]
        behaviour = compare_behaviour(theirs, ours, authors)
        initial = None if found.is_module else found.build(channels)
        weighed = theirs
        if any(f.code == "swapped-axes" for f in behaviour):  # on squares it explains the numbers
            weighed = _on_a_square(theirs)
        compared, form = compare_numbers(weighed, as_, channels, asked, initial)
        if form is not None and _is_meant(form):  # what follows from an option is not found again
            chosen = Patient.admit(filled(copy.deepcopy(form.block)), ours.x)
            behaviour = compare_behaviour(theirs, chosen, authors)
    findings += behaviour
    known = {f.code for f in findings}
    findings += [f for f in compared if f.code not in known]
    checked = (*HEALTH, "bounds", "operators", "dependence on positions", "outputs on same weights")
    return Report(subject, grouped(findings), checked)


class _DoesNotRunError(Exception):
    """The forward fails on every size tried."""


def _alone(subject: str, code: str, what: str, fix: str) -> Report:
    return Report(subject, (Finding(code, "error", "", what, fix),), ("running at all",))


def _first_that_runs(found: Target, as_: str, asked: dict[str, Any]) -> tuple[int, Patient]:
    """Their block with random parameters, on the first number of channels and size it accepts."""
    last = ""
    for channels in _numbers_of_channels(found):
        try:
            create_block(as_, channels, **asked)
        except ArgumentError as error:
            last = str(error)
            continue
        module = filled(found.build(channels))
        for size in (found.size,) if found.size else SIZES:
            x = noise(2, channels, *size, dtype=torch.float64)
            try:
                patient = Patient.admit(module, x)
            except Exception as error:
                last = error_text(error)
                continue
            if patient.y and patient.y[0].dim() == 4:
                return channels, patient
            last = "it returns no tensor (N, C, H, W)"
        if not found.is_module:
            break
    if not last:
        raise ArgumentError(f"cannot tell the number of channels of {found.title}")
    raise _DoesNotRunError(last)


def _numbers_of_channels(found: Target) -> Iterator[int]:
    given = found.channels()
    if given is not None:
        yield given
        return
    if found.is_module:  # its channels are the length of some axis of some parameter
        axes = {n for p in found.build(0).parameters() for n in p.shape if n > 1}
        yield from sorted(axes, reverse=True)
    yield from CHANNELS


def _is_meant(form: Form) -> bool:
    """Options that somebody may have meant; pools=("avg", "avg") is how a mistake looks."""
    return bool(form.changes) and not any(isinstance(v, tuple) for _, v in form.changes)


def _on_a_square(theirs: Patient) -> Patient:
    side = max(theirs.x.shape[2:])
    x = noise(*theirs.x.shape[:2], side, side, dtype=torch.float64)
    try:
        return Patient.admit(theirs.model, x)
    except Exception:  # it runs on one size alone
        return theirs


def _health(theirs: Patient, ours: Patient) -> list[Finding]:
    """What ails theirs and not ours."""
    normal = {finding.code for finding in examine(ours, HEALTH)[0]}
    found = [f for f in examine(theirs, HEALTH)[0] if f.severity != "note"]
    return [f for f in found if f.code not in normal]


def _sizes(theirs: Patient, found: Target) -> Iterator[Finding]:
    """A block that needed a square or one size to run at all."""
    size = tuple(theirs.x.shape[2:])
    if found.size or size in SIZES[:2]:
        return
    yield Finding(
        "fixed-size",
        "error",
        "",
        f"It runs on maps of {size[0]}x{size[1]} and not on smaller ones, nor on 8x6.",
        "Take H and W from x.shape in forward; pad each convolution by dilation * (k // 2).",
    )


def _out_channels(found: Target, channels: int) -> Iterator[Finding]:
    """A constructor that takes another number of output channels, and a forward that does not."""
    if not found.takes_out_channels or found.is_module:
        return
    try:
        module: nn.Module = found.build(channels, 2 * channels).double().eval()
    except (NotConstructibleError, ConvattnError):
        return
    size = found.size or (8, 8)
    x: Tensor = noise(2, channels, *size, dtype=torch.float64)
    try:
        with torch.no_grad():
            module(x)
    except Exception as error:
        yield Finding(
            "out-channels",
            "warning",
            "",
            f"The constructor accepts {2 * channels} output channels for {channels}, the forward "
            f"then fails: {error_text(error)}",
            "A gate has the channels of its input: refuse others in the constructor, or leave the "
            "argument out.",
        )
