"""Examine a model: run it on images or noise, and say what will hurt."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from convattn.blocks._base import Block
from convattn.core.errors import ArgumentError, ConvattnError
from convattn.doctor.fitting import FITTING_CHECKS
from convattn.doctor.patient import Patient, error_text, noise
from convattn.doctor.reading import READING_CHECKS
from convattn.doctor.report import Finding, Report, grouped
from convattn.doctor.running import RUNNING_CHECKS
from convattn.ops import kernels

__all__ = ["CHECKS", "doctor", "examine"]

CHECKS = {**READING_CHECKS, **RUNNING_CHECKS, **FITTING_CHECKS}
MODEL_SIZE = (2, 3, 224, 224)
BLOCK_SIZE = 32


def doctor(
    model: nn.Module,
    input_size: tuple[int, ...] | None = None,
    *,
    images: Tensor | None = None,
) -> Report:
    """Examine a network or a block; it is not changed, all runs are on copies.

    Args:
        model: takes one batch of images (N, C, H, W).
        input_size: of the noise to run it on, at least two images; None takes (2, 3, 224, 224),
            for a block of ours (2, channels, 32, 32).
        images: at least two real ones, prepared as for training, instead of noise: what is said
            about the gates is then about these.

    Returns:
        Findings, each with its fix; `print(report)` shows them.

    Raises:
        ArgumentError: fewer than two images.
        InputError: the model is ours and refuses the size.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    x = images if images is not None else noise(*(input_size or _usual_size(model)))
    if x.dim() < 3 or len(x) < 2:
        raise ArgumentError(
            f"at least two images (N, C, H, W) are needed, got {tuple(x.shape)}: some "
            "checks compare the images of a batch"
        )
    kind = "noise" if images is None else "images"
    subject = f"{type(model).__name__} on {kind} {' x '.join(map(str, x.shape))}"
    try:
        with quiet():
            patient = Patient.admit(model, x, given=images is not None)
    except ConvattnError:
        raise
    except Exception as error:
        found = Finding(
            "does-not-run",
            "error",
            "",
            f"On {tuple(x.shape)} the forward fails: {error_text(error)}",
            "Give the input_size that the model is made for; if that is it, read the error.",
        )
        return Report(subject, (found,), ("running at all",), kernels())
    with quiet():
        findings, done = examine(patient, CHECKS)
    return Report(subject, grouped(findings), done, kernels())


def examine(patient: Patient, names: Iterable[str]) -> tuple[list[Finding], tuple[str, ...]]:
    """Findings of the named checks, and the checks that ran."""
    findings = []
    for name in names:
        findings += [*CHECKS[name](patient)]
    return findings, tuple(names)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of the examined model, and the caller's random state untouched."""
    with warnings.catch_warnings(action="ignore"), torch.random.fork_rng(devices=()):
        yield


def _usual_size(model: nn.Module) -> tuple[int, ...]:
    if isinstance(model, Block):
        return (2, model._channels or 64, *(BLOCK_SIZE,) * model.ndim)
    return MODEL_SIZE
