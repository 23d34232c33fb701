"""The record of one finished run, read back from its JSON, and whether records may be compared.

This file knows no statistics: it refuses broken records and unfair sets of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convattn.core.errors import ArgumentError, DataError, DataNotFoundError

__all__ = ["SCHEMA", "Run", "check_comparable", "differing_environments", "flatten"]

SCHEMA = 1

# What two runs must share about their data; anything else there is descriptive.
_DATA_FIELDS = ("fingerprint", "name", "classes", "train", "test")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run: what was varied, what came out, what it cost, how it was made.

    Attributes:
        cell: The varied fields and this run's values of them, e.g. `{"attention": "ca"}`.
        label: The variant's name; runs that differ in the seed alone share it.
        seed: The seed of order, augmentation and initial weights.
        metrics: Final numbers on the test data.
        history: One mapping per epoch, each with at least `epoch`.
        cost: `parameters`, `macs`, `latency_ms`; any may be absent.
        config: The full configuration.
        environment: Versions, machine, commit.
        data: Name, fingerprint, classes and sizes of the data.
        seconds: Wall-clock time of the run.
        by_class: Scores of each class, by class and score; empty where the task has none.
        source: Where the record was read from; for messages only.
    """

    cell: Mapping[str, Any]
    label: str
    seed: int
    metrics: Mapping[str, float]
    history: tuple[Mapping[str, float], ...]
    cost: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    seconds: float
    by_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    source: str = field(default="", compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read one record.

        Raises:
            DataNotFoundError: There is no such file.
            DataError: The file is not a whole, valid record; the text names file and field.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise DataNotFoundError(f"run record {path} does not exist") from error
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"run record {path} cannot be read: {error}") from error
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                f"run record {path} is not valid JSON (line {error.lineno}: {error.msg}); "
                "remove it and run the comparison again to repeat this one run"
            ) from error
        return cls.from_dict(record, source=str(path))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], *, source: str = "record") -> Run:
        """Build a run from a decoded record.

        Raises:
            DataError: A field is missing or of the wrong type; the text names it and `source`.
        """
        read = _Reader(record, source)
        schema = read.get("schema", int)
        if schema != SCHEMA:
            raise DataError(f"{source}: field 'schema' is {schema}, this version reads {SCHEMA}")
        metrics = read.get("metrics", Mapping)
        for name, value in metrics.items():
            read.check(f"metrics.{name}", value, float)
        history = read.get("history", Sequence)
        for position, row in enumerate(history):
            read.check(f"history[{position}]", row, Mapping)
            read.check(f"history[{position}].epoch", row.get("epoch"), int)
        return cls(
            cell=dict(read.get("cell", Mapping)),
            label=read.get("label", str),
            seed=read.get("seed", int),
            metrics={name: float(value) for name, value in metrics.items()},
            history=tuple(dict(row) for row in history),
            cost=dict(read.get("cost", Mapping)),
            config=dict(read.get("config", Mapping)),
            environment=dict(read.get("environment", Mapping)),
            data=dict(read.get("data", Mapping)),
            seconds=float(read.get("seconds", float)),
            by_class=dict(record.get("by_class", {})),
            source=source,
        )

    def __str__(self) -> str:
        return f"{self.label} seed {self.seed}"


class _Reader:
    """Field access with the file's and the field's name in every error."""

    _words: Mapping[type, str] = {
        int: "a whole number",
        float: "a finite number",
        str: "a text",
        Mapping: "an object",
        Sequence: "a list",
    }

    def __init__(self, record: object, source: str) -> None:
        self.source = source
        self.check("(top level)", record, Mapping)
        self.record: Mapping[str, Any] = record  # type: ignore[assignment]

    def get(self, name: str, kind: type) -> Any:
        if name not in self.record:
            raise DataError(f"{self.source}: field {name!r} is missing")
        return self.check(name, self.record[name], kind)

    def check(self, name: str, value: object, kind: type) -> Any:
        if kind is float:
            good = isinstance(value, int | float) and math.isfinite(value)
        else:
            good = isinstance(value, kind) and not (kind is Sequence and isinstance(value, str))
        if not good or isinstance(value, bool):
            text = repr(value)
            text = text if len(text) <= 60 else text[:57] + "..."
            raise DataError(f"{self.source}: field {name!r} is {text}, not {self._words[kind]}")
        return value


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a nested mapping as `("outer.inner", value)`, in their order."""
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


def check_comparable(runs: Sequence[Run], *, ignore: Iterable[str] = ()) -> tuple[str, ...]:
    """Refuse a set of runs whose difference could come from anything but the varied fields.

    Args:
        runs: The records.
        ignore: Further config fields (dotted) that may differ, such as an output path.

    Returns:
        The varied fields: the keys of all cells, in order of appearance.

    Raises:
        ArgumentError: No runs, a run given twice, one label for two cells, or a field of the
            configuration or the data that differs; the text names the field and both runs.
    """
    if not runs:
        raise ArgumentError("there are no finished runs to compare")
    cells: dict[str, Run] = {}
    seen: dict[tuple[str, int], Run] = {}
    for run in runs:
        twin = seen.setdefault((run.label, run.seed), run)
        if twin is not run:
            raise ArgumentError(f"run {run} is given twice: {twin.source} and {run.source}")
        first = cells.setdefault(run.label, run)
        if dict(first.cell) != dict(run.cell):
            raise ArgumentError(
                f"label {run.label!r} stands for two cells: {first.cell} and {run.cell}"
            )
    varied = tuple(dict.fromkeys(key for run in runs for key in run.cell))
    free = (*varied, "seed", *ignore)
    first = runs[0]
    for run in runs[1:]:
        _same("config", dict(flatten(first.config)), dict(flatten(run.config)), free, first, run)
        data = [{name: r.data.get(name) for name in _DATA_FIELDS} for r in (first, run)]
        _same("data", data[0], data[1], (), first, run)
    return varied


def _same(
    part: str, a: dict[str, Any], b: dict[str, Any], free: Sequence[str], first: Run, run: Run
) -> None:
    absent = object()
    for name in dict.fromkeys((*a, *b)):
        if any(name == one or name.startswith(f"{one}.") for one in free):
            continue
        x, y = a.get(name, absent), b.get(name, absent)
        if x != y:
            x, y = ("absent" if value is absent else repr(value) for value in (x, y))
            raise ArgumentError(
                f"these runs cannot be compared fairly: {part} field {name!r} is {x} in "
                f"{first} but {y} in {run}. Repeat one of them with the other's value, or make "
                f"{name!r} a varied field of the grid"
            )


def differing_environments(runs: Sequence[Run]) -> tuple[str, ...]:
    """Environment fields that are not the same in all runs; these are told, not refused."""
    flat = [dict(flatten(run.environment)) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    return tuple(n for n in names if len({repr(one.get(n)) for one in flat}) > 1)
