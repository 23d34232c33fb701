"""What `sensitivity` found: places, their costs, and which of them may be called the best."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convattn.compare.inference import Interval, paired_difference, t_interval

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Candidate", "Sensitivity"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One place, or several that are filled together.

    Attributes:
        name: a position, a path, or a position and its stage.
        paths: of the modules behind which the blocks go.
        parameters: that the blocks add.
        macs: multiply-accumulates that they add for one image.
        proxy: for each seed, by how much one step lowers the loss on batches kept aside.
        gains: for each seed, by how much training does; empty where only the proxy was taken.
        seconds: that proxy and training took.
    """

    name: str
    paths: tuple[str, ...] = field(repr=False)
    parameters: int
    macs: int
    proxy: tuple[float, ...] = ()
    gains: tuple[float, ...] = ()
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """Mean of the proxy over seeds."""
        return sum(self.proxy) / len(self.proxy)

    @property
    def gain(self) -> float | None:
        """Mean gain over seeds."""
        return sum(self.gains) / len(self.gains) if self.gains else None

    @property
    def interval(self) -> Interval | None:
        """Of the mean gain, 95 %, over seeds; None with fewer than two."""
        return t_interval(self.gains)


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """A ranking of places; `print` shows it.

    Attributes:
        host: class of the host.
        block: name of the block.
        candidates: those that were trained first, by mean gain, then the others, by score.
        loss: the host's own on the batches kept aside, for each seed.
        seeds: of all trials.
        steps: of each training.
        seconds: "proxy" and "training", for all.
        skipped: why a position could not be tried, by its name.
    """

    host: str
    block: str
    candidates: tuple[Candidate, ...] = field(repr=False)
    loss: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    seconds: Mapping[str, float]
    skipped: Mapping[str, str]

    def __getitem__(self, name: str) -> Candidate:
        return next(c for c in self.candidates if c.name == name)

    @property
    def contenders(self) -> tuple[str, ...]:
        """Trained places that lower the loss, and that no other is better than, seed by seed.

        Both are asked of 95 % intervals over seeds; with one seed there are none to ask.
        """
        helping = [c for c in self.candidates if c.gains and _positive(c.gains)]
        return tuple(
            c.name
            for c in helping
            if not any(
                _positive([b - a for a, b in zip(c.gains, o.gains, strict=True)]) for o in helping
            )
        )

    @property
    def best(self) -> str | None:
        """The place that helps most; None where several contend, or none helps."""
        return self.contenders[0] if len(self.seeds) > 1 and len(self.contenders) == 1 else None

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        seeds = f"over {len(self.seeds)} seeds"
        if not any(c.gains for c in self.candidates):
            return "Only the proxy was taken (top=0); it orders places, it does not compare them."
        if len(self.seeds) == 1:
            return "With one seed nothing is known about chance; take several."
        if self.best is not None:
            interval = self[self.best].interval
            assert interval is not None
            return (
                f"{self.best} helps most: the loss is {self[self.best].gain:.4f} lower than the "
                f"host's (95 % interval {interval.low:.4f} to {interval.high:.4f} {seeds})."
            )
        if self.contenders:
            return f"No single best {seeds}: {', '.join(self.contenders)} cannot be told apart."
        return f"No trained place lowers the loss beyond chance {seeds}."

    def as_table(self) -> Table:
        """The table for `rich`."""
        from rich.table import Table

        mean = sum(self.loss) / len(self.loss)
        table = Table(
            title=f"{self.block} into {self.host}, whose loss is {mean:.4f}; by how much it falls",
            caption=f"proxy {self.seconds['proxy']:.1f} s, {self.steps} steps of training each "
            f"{self.seconds['training']:.1f} s; {len(self.seeds)} seeds",
        )
        table.add_column("place", overflow="fold")
        for column in ("blocks", "parameters", "MACs", "proxy", "trained", "95 % interval"):
            table.add_column(column, justify="right", no_wrap=True)
        for c in self.candidates:
            interval = c.interval
            table.add_row(
                c.name, str(len(c.paths)), f"{c.parameters:,}", f"{c.macs:,}", f"{c.score:.4f}",
                "-" if c.gain is None else f"{c.gain:.4f}",
                f"{interval.low:.4f} to {interval.high:.4f}" if interval else "-",
            )  # fmt: skip
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        console = Console(file=text, width=110, color_system=None)
        console.print(self.as_table())
        for name, reason in self.skipped.items():
            console.print(f"not tried: {name}: {reason}", highlight=False)
        console.print(self.verdict, highlight=False)
        return text.getvalue()


def _positive(differences: Sequence[float]) -> bool:
    """Whether a mean is above 0 by its 95 % interval; with one value, whether that is."""
    pairs = dict(enumerate(differences))
    interval = paired_difference(pairs, dict.fromkeys(pairs, 0.0)).interval
    return (interval.low if interval else differences[0]) > 0
