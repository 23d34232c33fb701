"""Which samples each step sees: a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from convattn.core.seeds import derive, permutation

__all__ = ["Order"]

Key = tuple[int, int]  # (epoch, index of the sample)


@dataclass(frozen=True)
class Order:
    """The order of a training run.

    Attributes:
        size: number of training samples; each is seen once per epoch.
        batch: samples per step over all processes and pieces; the last of an epoch may have fewer.
        accumulate: pieces that a process's share of a batch is computed in.
        seed: of the run.
        rank: this process.
        world: number of processes.
    """

    size: int
    batch: int
    accumulate: int = 1
    seed: int = 0
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return ceil(self.size / self.batch)

    def step(self, step: int) -> list[Key]:
        """Samples of a step (counted from 0) over all processes."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = _epoch_order(self.size, derive(self.seed, "order", epoch))
        return [(epoch, i) for i in order[index * self.batch : (index + 1) * self.batch]]

    def pieces(self, step: int) -> list[list[Key]]:
        """This process's share of a step, cut into at most `accumulate` pieces; none is empty.

        A process that is idle in a step gets another's sample, to be there when all exchange
        gradients.
        """
        keys = self.step(step)
        share = keys[:1] if self.idle(step) else keys[self.rank :: self.world]
        length = ceil(len(share) / self.accumulate)
        return [share[i : i + length] for i in range(0, len(share), length)]

    def idle(self, step: int) -> bool:
        """Whether a short last batch has no sample for this process."""
        return self.rank >= len(self.step(step))

    def from_step(self, first: int, last: int) -> Iterator[list[Key]]:
        """All pieces of steps first..last-1, in order: a batch sampler for the rest of a run."""
        for step in range(first, last):
            yield from self.pieces(step)


@lru_cache(maxsize=2)
def _epoch_order(size: int, seed: int) -> list[int]:
    return permutation(size, seed)
