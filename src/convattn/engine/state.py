"""Everything that a run's future depends on, saved and restored whole; nothing lives in closures.

There is no random state in it: every draw is keyed by (seed, step, sample).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["TrainState"]


@dataclass
class TrainState:
    """The state of a run after `step` optimiser steps.

    Attributes:
        model: the network, not wrapped.
        optimizer: its optimiser.
        scaler: of fp16 gradients, else None.
        ema: averaged weights, else None.
        step: optimiser steps done.
        losses: sums over this epoch's samples, by name.
        loss_count: samples in them.
        skipped: steps left out because of a NaN or infinity.
        skipped_in_row: of them, those directly before this step.
        seconds: of training and evaluation so far.
        history: one row per finished epoch.
    """

    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler | None = None
    ema: AveragedModel | None = None
    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    loss_count: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are evaluated and kept."""
        return self.model if self.ema is None else self.ema.module

    def dump(self) -> dict[str, Any]:
        """As tensors and plain values."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            **{name: getattr(self, name) for name in _VALUES},
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Become the state that was dumped."""
        for name, part in self._parts().items():
            part.load_state_dict(dumped[name])
        for name in _VALUES:
            setattr(self, name, dumped[name])

    def _parts(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "ema": self.ema,
        }
        return {name: part for name, part in parts.items() if part is not None}


_VALUES = ("step", "losses", "loss_count", "skipped", "skipped_in_row", "seconds", "history")


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and statistics."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
