"""Checks of what a model can be fitted to: batches of one, other sizes, 16-bit numbers."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from convattn.doctor.patient import Patient, error_text, hidden_layers, noise, outputs
from convattn.doctor.report import Finding

__all__ = ["FITTING_CHECKS"]

LARGER = 32  # a multiple of every usual stride, so that larger sizes fit where the size does


def batch_of_one(patient: Patient) -> Iterator[Finding]:
    """Batch norms that would see one value per channel."""
    for call in patient.trace.calls:
        shape = call.args[0] if call.args else ()
        if "batch_norm" not in call.name or not isinstance(shape, tuple):
            continue
        if len(shape) >= 2 and torch.Size(shape[2:]).numel() == 1:
            yield Finding(
                "batch-1",
                "warning",
                call.path,
                "At this map size the batch norm sees one value per channel and image: training "
                "with batch 1, or a last batch of 1, fails, and small batches are noisy.",
                "Train with drop_last=True and larger batches, on larger maps, or use a layer "
                "norm there.",
            )


def sizes(patient: Patient) -> Iterator[Finding]:
    """Whether other heights and widths run."""
    x = patient.x
    if x.dim() != 4:
        return
    h, w = x.shape[2:]
    error = _fails(patient, (h + LARGER, w + LARGER))
    if error:
        yield Finding(
            "fixed-size",
            "warning",
            "",
            f"{h}x{w} runs, {h + LARGER}x{w + LARGER} fails: {error}",
            "Take H and W from x.shape in forward, not from the constructor.",
        )
        return
    for size in ((h + LARGER, w), (h, w + LARGER)):
        error = _fails(patient, size)
        if error:
            yield Finding(
                "square-only",
                "warning",
                "",
                f"{h}x{w} and larger squares run, {size[0]}x{size[1]} fails: {error}",
                "Use x.shape[2] for what goes along the height and x.shape[3] along the width; "
                "transpose one strip before concatenating the two.",
            )
            return


def _fails(patient: Patient, size: tuple[int, int]) -> str:
    n, c = patient.x.shape[:2]
    try:
        patient.run(noise(n, c, *size).to(patient.x))
    except Exception as error:
        return error_text(error)
    return ""


def half_precision(patient: Patient) -> Iterator[Finding]:
    """Whether the model runs in 16 bits where it runs in 32."""
    if not all(bool(y.isfinite().all()) for y in patient.y):
        yield Finding(
            "not-finite",
            "error",
            "",
            "The output holds NaN or infinity.",
            "Look for a division by a size minus 1, a log or a square root of 0.",
        )
        return
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        try:
            model = patient.fresh().to(dtype)
            for layer in hidden_layers(model):  # their own finding
                layer.to(dtype)
            with torch.no_grad():
                ys = outputs(model, patient.x[:1].to(dtype))
        except Exception as error:
            if "not implemented for" in str(error):  # this device's limit, not the model's
                continue
            yield Finding(
                "half-precision",
                "warning",
                "",
                f"In {name} the model fails: {error_text(error)}",
                "Make tensors with x.new_zeros(...) or dtype=x.dtype, device=x.device, instead of "
                "torch.zeros(...) and .cuda().",
            )
            return
        if not all(bool(y.isfinite().all()) for y in ys):
            yield Finding(
                "half-precision",
                "warning",
                "",
                f"In {name} the output holds NaN or infinity where float32 is finite.",
                "Keep sums over positions, squares and softmaxes in float32: x.float() before.",
            )
            return


FITTING_CHECKS = {
    "batch of one": batch_of_one,
    "other sizes": sizes,
    "16-bit floating point": half_precision,
}
