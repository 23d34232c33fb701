"""The parts of a loss, and what a process's part of a batch has to do with the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from convattn.core.protocols import LossParts

__all__ = ["over_processes", "parts_of"]


def parts_of(loss: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The whole under "loss", and the parts of a mapping under their names."""
    if isinstance(loss, Tensor):
        return {"loss": loss}
    whole = torch.stack([*loss.values()]).sum()
    return {"loss": whole, **{name: part for name, part in loss.items() if name != "loss"}}


def over_processes(
    loss: Tensor | Mapping[str, Tensor], samples: int, add: Callable[..., list[float]]
) -> Tensor | Mapping[str, Tensor]:
    """The loss of which the mean over all samples of all processes is that of the whole batch.

    A mean over the samples is so already. With S_p the sum over the c_p boxes of process p's n_p
    samples, the whole batch has sum S_p / sum c_p, not the mean of the S_p / c_p.

    Args:
        loss: of this process's samples.
        samples: n_p; 0 if what it has does not count.
        add: sums each of its arguments over the processes.
    """
    if not isinstance(loss, LossParts) or not loss.counts:
        return loss
    counts = {name: count if samples else 0 for name, count in loss.counts.items()}
    every, *totals = add(samples, *counts.values())
    parts = dict(loss)
    for (name, count), total in zip(counts.items(), totals, strict=True):
        # max: a loss without any box is divided by 1
        parts[name] = loss[name] * (max(1, count) / max(1, total) * every / max(1, samples))
    return parts
