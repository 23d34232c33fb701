"""Optimiser and learning-rate schedule of a run."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import SGD, AdamW, Optimizer

from convattn.core.config import TrainConfig

__all__ = ["learning_rate", "make_optimizer"]


def make_optimizer(parameters: list[dict[str, Any]], config: TrainConfig) -> Optimizer:
    """SGD with momentum or AdamW over groups of parameters, each with its "scale" of the rate."""
    fused = config.precision != "fp16"  # a fused step unscales by itself, too late for the guard
    if config.optimizer == "adamw":
        return AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=fused)
    return SGD(
        parameters,
        config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=fused,
    )


def learning_rate(step: int, config: TrainConfig, steps_per_epoch: int) -> float:
    """The rate of a step, counted from 0; a pure function, so that nothing has to be restored.

    Warm-up rises linearly: with `warmup_start` from that share of `lr`, to reach `lr` in the step
    behind it, as PyTorch's LinearLR; without, it reaches `lr` in its last step. "cosine" is
    (1 + cos(pi t / T)) / 2 and "poly" (1 - t / T) ** `poly_power`, t and T counted behind the
    warm-up; "step" multiplies by `step_factor` at each of the `milestones`, or every `step_epochs`,
    counted from the first step.
    """
    warmup = config.warmup_steps
    if warmup is None:
        warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        start = config.warmup_start
        share = start + (1 - start) * step / warmup if start else (step + 1) / warmup
        return config.lr * share
    total = max(1, config.epochs * steps_per_epoch - warmup)
    if config.schedule == "cosine":
        return config.lr * (1 + math.cos(math.pi * (step - warmup) / total)) / 2
    if config.schedule == "poly":
        return config.lr * max(0.0, 1 - (step - warmup) / total) ** config.poly_power
    if config.schedule == "step":
        drops = step // steps_per_epoch // config.step_epochs
        if config.milestones is not None:
            drops = sum(step >= round(epoch * steps_per_epoch) for epoch in config.milestones)
        return config.lr * config.step_factor**drops
    return config.lr
