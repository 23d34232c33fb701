"""Checks that run the model: what depends on what, sizes, precisions, training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from convattn.doctor.patient import Patient, close, error_text, noise, outputs
from convattn.doctor.report import Finding

__all__ = ["RUNNING_CHECKS"]


def batch_leak(patient: Patient) -> Iterator[Finding]:
    """Whether the output for one image depends on the others, in evaluation."""
    x = patient.x
    if not patient.repeats():  # another check has it
        return
    other = torch.cat((x[:1], 3 * noise(*x[1:].shape, seed=7).to(x)))
    alone = [y[:1] for y in patient.y if y.shape[:1] == x.shape[:1]]
    for what, tried in (("another image of the batch changes", other), ("it is alone", x[:1])):
        try:
            changed = [y[:1] for y in patient.run(tried) if y.shape[:1] == tried.shape[:1]]
        except Exception:  # a fixed batch size: the sizes check has it
            continue
        if not close(changed, alone):
            over_batch = [
                call.path
                for call in patient.trace.calls
                if "softmax" in call.name
                and len(call.args) > 1
                and len(call.args[0]) > 1
                and call.args[1] in (0, -len(call.args[0]))
            ]
            cause = " A softmax runs over axis 0, the images." if over_batch else ""
            yield Finding(
                "batch-leak",
                "error",
                over_batch[0] if over_batch else _first_leak(patient, other),
                f"In evaluation the output for an image changes when {what}.{cause}",
                "Name the axis in every softmax, mean and norm (softmax(dim=-1), not the default) "
                "and keep axis 0 out of every view and sum.",
            )
            return


def _first_leak(patient: Patient, other: Tensor) -> str:
    """The first module whose input for image 0 is the same, and whose output is not."""

    def record(x: Tensor) -> list[tuple[str, Any, Any]]:
        seen: list[tuple[str, Any, Any]] = []
        handles = [
            module.register_forward_hook(
                lambda m, args, output, path=path: seen.append((path, _head(args), _head(output)))
            )
            for path, module in patient.model.named_modules()
        ]
        try:
            patient.run(x)
        finally:
            for handle in handles:
                handle.remove()
        return seen

    for (path, i, o), (_, i2, o2) in zip(record(patient.x), record(other), strict=False):
        if close(i, i2) and not close(o, o2):
            return path
    return ""


def _head(values: Any) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(values)
    return [v[:1].clone() for v in leaves if isinstance(v, Tensor) and v.is_floating_point()]


def random_in_evaluation(patient: Patient) -> Iterator[Finding]:
    """Whether two runs in eval mode agree."""
    if not patient.repeats():
        yield Finding(
            "random-in-evaluation",
            "error",
            "",
            "Two runs on the same images in eval mode give different outputs.",
            "Draw random tensors once, in __init__, as parameters or buffers; use nn.Dropout "
            "rather than F.dropout without training=self.training.",
        )


def input_overwritten(patient: Patient) -> Iterator[Finding]:
    """Whether the forward changes the tensor that it is given."""
    for mode in ("eval", "train"):
        model, x = patient.fresh().train(mode == "train"), patient.x.clone()
        try:
            with torch.no_grad():
                model(x)
        except Exception:
            continue
        if not torch.equal(x, patient.x):
            yield Finding(
                "input-overwritten",
                "error",
                "",
                f"In {mode} mode the forward writes into its input: a shortcut round the block "
                "then adds the changed map, and autograd may refuse.",
                "Write into a new tensor: torch.cat or torch.stack instead of x[...] = ..., and no "
                "inplace=True on the input itself.",
            )
            return


def training_step(patient: Patient) -> Iterator[Finding]:
    """Whether a training step works, and whether every parameter gets a gradient."""
    with patient.training() as model:
        x = 1 * patient.x.clone().requires_grad_()  # as between layers: has a gradient, no leaf
        try:
            losses = [(y * noise(*y.shape).to(y)).sum() for y in outputs(model, x)]
            torch.stack([loss.float() for loss in losses if loss.requires_grad]).sum().backward()
        except Exception as error:
            yield Finding(
                "training-fails",
                "error",
                "",
                f"A training step on {len(x)} images fails: {error_text(error)}",
                "Run it alone with torch.autograd.set_detect_anomaly(True); in-place operations on "
                "tensors that the backward needs are the usual cause.",
            )
            return
        norms = {p for p, m in model.named_modules() if _is_norm(m)}
        unused: dict[str, list[str]] = {}
        for key, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                unused.setdefault(key.rpartition(".")[0], []).append(key)
    for path in unused:
        if path in norms:
            yield Finding(
                "ignored-normalisation",
                "error",
                path,
                "A normalisation layer is created and never called: its parameters get no "
                "gradient, its statistics never move.",
                "Call it where the definition has it, or delete it.",
            )
        else:
            yield Finding(
                "unused-parameters",
                "error",
                path,
                "Parameters get no gradient: nothing that is returned depends on them. "
                "Distributed training stops at them.",
                "Call the layer in forward, or delete it.",
            )


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


RUNNING_CHECKS = {
    "dependence between images": batch_leak,
    "repeatability": random_in_evaluation,
    "overwritten input": input_overwritten,
    "gradients of all parameters": training_step,
}
