"""Samples as the engine asks for them: augmented by (epoch, index), or as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset

from convattn.core.seeds import derive, seeded

__all__ = ["TestSet", "TrainSet"]


class TrainSet(Dataset[Any]):
    """Maps (epoch, index) to one augmented sample; the same pair gives the same bits.

    Args:
        read: a sample of the data by its index.
        prepare: that sample as (input, truth), with draws from PyTorch's generator.
        seed: of the draws.
    """

    def __init__(
        self, read: Callable[[int], Any], prepare: Callable[[Any], Any], seed: int
    ) -> None:
        self.read, self.prepare, self.seed = read, prepare, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Any, Any, int]:
        epoch, index = key
        found = self.read(index)
        with seeded(derive(self.seed, "augment", epoch, index)):
            image, truth = self.prepare(found)
        return image, truth, index


class TestSet(Dataset[Any]):
    """Maps an index to one sample.

    Args:
        count: number of samples.
        read: as of `TrainSet`.
        prepare: as of `TrainSet`, without draws.
    """

    def __init__(
        self, count: int, read: Callable[[int], Any], prepare: Callable[[Any], Any]
    ) -> None:
        self.count, self.read, self.prepare = count, read, prepare

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, Any, int]:
        return *self.prepare(self.read(index)), index
