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

    Warm-up rises linearly and reaches `lr` in its last step. "cosine" is (1 + cos(pi t / T)) / 2
    over the steps behind the warm-up, "step" multiplies by `step_factor` every `step_epochs`.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "cosine":
        total = max(1, config.epochs * steps_per_epoch - warmup)
        return config.lr * (1 + math.cos(math.pi * (step - warmup) / total)) / 2
    if config.schedule == "step":
        return config.lr * config.step_factor ** (step // steps_per_epoch // config.step_epochs)
    return config.lr
