"""What the training loop asks of a task, and what a whole run asks of one; neither knows more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset

from convattn.core.config import TrainConfig

__all__ = ["Data", "LossParts", "Reporter", "RunTask", "Task"]


class Data(Protocol):
    """Opened and checked data of any task."""

    @property
    def name(self) -> str:
        """The source, short."""

    @property
    def train(self) -> Sized:
        """Training samples."""

    @property
    def test(self) -> Sized:
        """Test samples."""

    @property
    def classes(self) -> Sequence[str]:
        """Their names."""

    @property
    def fingerprint(self) -> str:
        """Changes when the data change."""

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """(path, cause) of what was left out."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should be told."""


class LossParts(dict[str, Tensor]):
    """The parts of a loss, each a mean over the batch's samples, or over something else in them.

    Attributes:
        counts: of the latter, such as means over a detector's boxes: over how many.
    """

    def __init__(self, parts: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        super().__init__(parts)
        self.counts = dict(counts)


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
        """Samples to a batch: tensors in any nesting of lists, tuples and dicts."""

    def batch_size(self, batch: Any) -> int:
        """Number of samples in a batch."""

    def sample_ids(self, batch: Any) -> Sequence[str]:
        """Names of the samples in a batch, for error messages."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor | Mapping[str, Tensor]:
        """Mean loss over the batch; random draws come from PyTorch's seeded generator.

        Of a mapping the sum is minimised, and each part is told too, as train_NAME. Parts that are
        no means over the samples come as `LossParts`.
        """

    def evaluate(self, model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        """Metrics over the test set; `model` is in eval mode and gradients are off.

        Those with "loss" in their names are losses, all others shares from 0 to 1. One that is not
        defined on these data is left out.
        """


class RunTask(Task, Protocol):
    """A task that runs, evaluations and comparisons can be made of; found by `tasks/kinds.py`.

    Attributes:
        data: its data.
        notes: on the network, for the user.
        curves: metrics to draw over the epochs.
        class_metric: the score in `by_class` whose mean over the classes `metric` is; "" without.
        facts: of `Task`, with at least "task", "classes" and "size", the side of the images in
            pixels.
    """

    data: Any
    notes: list[str]
    curves: Sequence[str]
    class_metric: str

    def __init__(
        self,
        config: TrainConfig,
        data: Any,
        *,
        model: nn.Module | None = None,
        resumed: bool = False,
    ) -> None:
        """The task of a configuration.

        Args:
            config: of the run.
            data: from `open_data`.
            model: a trained network to evaluate; None builds a new one.
            resumed: the new one's weights will come from a checkpoint of the run, so no file of
                weights is read.
        """

    @staticmethod
    def open_data(config: TrainConfig) -> Data:
        """The data of a configuration, checked."""

    @staticmethod
    def rebuild(facts: dict[str, Any]) -> nn.Module:
        """The network of a weights file's facts with any weights; reads no other file."""

    @staticmethod
    def references(data: Any) -> dict[str, float]:
        """Values of `metric` that need no network, by name."""

    @property
    def by_class(self) -> Mapping[str, Mapping[str, float]]:
        """Scores of each class at the last evaluation, those that are defined, from 0 to 1."""

    @property
    def evaluated(self) -> bool:
        """Whether `evaluate` has run, so that there is something to draw."""

    def write_pictures(self, folder: Path) -> None:
        """Pictures of the last evaluation, into the run's folder."""


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
