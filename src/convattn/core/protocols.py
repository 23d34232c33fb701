"""What the training loop asks of a task; it knows nothing else about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset

__all__ = ["Reporter", "Task"]


class Task(Protocol):
    """A model, its data, its loss and its metrics.

    Attributes:
        model: to be trained.
        metric: which of `evaluate`'s values decides on the best weights; higher is better.
        facts: what a checkpoint must hold to rebuild model and classes.
        fingerprint: changes when the data change.
    """

    model: nn.Module
    train_size: int
    metric: str
    facts: dict[str, Any]
    fingerprint: str

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """Groups of what is trained: "params", and "scale", their share of the learning rate."""

    @property
    def train_set(self) -> Dataset[Any]:
        """Maps (epoch, index) to one sample; the same pair gives the same bits."""

    @property
    def test_set(self) -> Dataset[Any]:
        """Maps an index to one sample."""

    def collate(self, samples: list[Any]) -> Any:
        """Samples to a batch of tensors (in any nesting)."""

    def batch_size(self, batch: Any) -> int:
        """Number of samples in a batch."""

    def sample_ids(self, batch: Any) -> Sequence[str]:
        """Names of the samples in a batch, for error messages."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean loss over the batch; random draws come from PyTorch's seeded generator."""

    def evaluate(self, model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        """Metrics over the test set; `model` is in eval mode and gradients are off."""


class Reporter(Protocol):
    """Who is told how a run goes on."""

    def start(self, total: int, done: int) -> None:
        """`done` of `total` steps lie behind."""

    def step(self, done: int, loss: float) -> None:
        """One more step is done."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done; `row` is its line of results.csv."""

    def note(self, text: str) -> None:
        """Something that the user should know."""
