"""Rows of published tables, read from `data/`; see there for one file per paper.

A file has the paper, its sources, the networks of its rows (arguments of `create_model`, an
authors' source with theirs, a detector on a backbone, or one block), and tables. A table has what
holds for its rows: `base` 1000 for units of 10^6 and 1024 for 2^20, the convention of its
operations, `step` where the print is rounded to more than its last digit, `rounding: down` where
digits are cut off. A row may change these, and has under `differs` why a print is not what is
recomputed, and under `adjust` what the authors' tool did not see or saw besides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import cache
from importlib import resources
from typing import Any

from convattn.core.errors import UnknownNameError
from convattn.core.names import suggest

__all__ = ["PAPERS", "Print", "Published", "published"]

PAPERS = (
    *("ca", "eca", "triplet", "cbam", "ema", "epsanet", "fcanet", "gsop", "mobilenet_v2"),
    *("mobilenext", "sa", "scnet", "sge", "simam"),
)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3}


@dataclass(frozen=True)
class Print:
    """A size or a number of operations as it is printed.

    Attributes:
        text: as printed, such as "24.37M".
        base: 1000 for units of 10^3, 10^6, 10^9; 1024 for those of 2^10.
        convention: of operations, a key of `convattn.cost.CONVENTIONS`; "" for parameters.
        step: what the print is rounded to, where that is more than its last digit; in ones.
        rounding: "nearest" or "down".
        value: where a formula is printed, its value for the row's block.
        adjust: operations that the print has besides the convention's, negative for less, and why.
        differs: why the recomputed number is another, where it is.
        trainable: whether a size is that of the trained parameters alone.
        not_counted: what is printed and not counted here.
    """

    text: str
    base: int
    convention: str = ""
    step: int | None = None
    rounding: str = "nearest"
    value: int | None = None
    adjust: tuple[int, str] = (0, "")
    differs: str = ""
    trainable: bool = False
    not_counted: str = ""

    def as_printed(self, count: int) -> str:
        """`count` with the print's unit and digits, to be compared with `text`."""
        if self.value is not None:
            return self.text if count == self.value else str(count)
        match = re.fullmatch(r"(\d+)(?:\.(\d+))?([KMG]?)", self.text)
        if match is None:
            raise ValueError(f"{self.text!r} is no number with a unit")
        whole = Decimal(count)
        mode = ROUND_DOWN if self.rounding == "down" else ROUND_HALF_UP
        if self.step:
            whole = (whole / self.step).quantize(Decimal(1), mode) * self.step
        unit = Decimal(self.base) ** _POWERS[match[3]]
        digits = (whole / unit).quantize(Decimal(1).scaleb(-len(match[2] or "")), mode)
        return f"{digits}{match[3]}"


@dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes:
        paper: key of the paper, from `PAPERS`.
        title: the paper.
        table: its table.
        setting: how the row was trained.
        model: network, as printed.
        attention: block, as printed.
        params: printed size, or None.
        macs: printed operations, or None.
        scores: metric -> value as published; not measured here.
        source: where the row was read; "recalled, not verified" for none.
        network: name and arguments of what is rebuilt, or None.
        not_built: why there is none, where a size or operations are printed.
        note: on the table.
    """

    paper: str
    title: str
    table: str
    setting: str
    model: str
    attention: str
    params: Print | None
    macs: Print | None
    scores: Mapping[str, float]
    source: str
    network: Mapping[str, Any] | None = field(repr=False)
    not_built: str
    note: str = field(repr=False)

    @property
    def network_name(self) -> str:
        """Of our network, such as "mobilenet_v2"; an authors' source or block; "" for none."""
        network = self.network or {}
        kinds = ("model", "source", "dense", "block")
        return next((str(network[kind]) for kind in kinds if kind in network), "")

    @property
    def verified(self) -> bool:
        """Whether the row was read in its source, and not recalled."""
        return not self.source.startswith("recalled")


def published(paper: str | None = None, model: str | None = None) -> tuple[Published, ...]:
    """Rows of published tables; `convattn.tables.recompute` holds one against our network.

    Args:
        paper: only of this paper; a name from `convattn.tables.PAPERS`.
        model: only of networks whose printed name or whose name here has this part, such as
            "mobilenet_v2" or "ResNet-50"; case and punctuation do not count.

    Raises:
        UnknownNameError: no such paper, or no row with such a network.

    Example:
        >>> from convattn import published
        >>> row = published(paper="ca", model="mobilenet_v2")[3]
        >>> row.attention, row.params.text, row.scores["top1"]
        ('CA r=32', '3.95M', 74.3)
    """
    if paper is not None and paper not in PAPERS:
        raise UnknownNameError(f"no paper named {paper!r}; {suggest(str(paper), PAPERS)}")
    rows = tuple(row for name in PAPERS if paper in (None, name) for row in _read(name))
    if model is None:
        return rows
    found = tuple(row for row in rows if _plain(model) in _plain(f"{row.model} {row.network_name}"))
    if not found or not _plain(model):
        known = dict.fromkeys(name for row in rows for name in (row.model, _short(row)) if name)
        raise UnknownNameError(f"no row with a network {model!r}; {suggest(str(model), known)}")
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _short(row: Published) -> str:
    return row.network_name if "/" not in row.network_name else ""


@cache
def _read(paper: str) -> tuple[Published, ...]:
    import yaml

    text = resources.files("convattn.tables").joinpath("data", f"{paper}.yaml")
    found = yaml.safe_load(text.read_text(encoding="utf-8"))
    return tuple(
        _row(paper, found, table, entry) for table in found["tables"] for entry in table["rows"]
    )


def _row(
    paper: str, found: dict[str, Any], table: dict[str, Any], entry: dict[str, Any]
) -> Published:
    values = dict(zip(table["columns"], entry["row"], strict=True))
    params, macs = (_print(name, values.pop(name), table, entry) for name in ("params", "macs"))
    printed = params is not None or macs is not None
    built = "network" in entry
    return Published(
        paper=paper,
        title=found["paper"],
        table=table["name"],
        setting=table["setting"],
        model=values.pop("model"),
        attention=values.pop("attention"),
        params=params,
        macs=macs,
        scores=values,
        source=found["sources"][table["source"]],
        network=found["networks"][entry["network"]] if built else None,
        not_built=(entry.get("not_built") or table["not_built"]) if printed and not built else "",
        note=table.get("note", ""),
    )


def _print(
    name: str, text: str | None, table: dict[str, Any], entry: dict[str, Any]
) -> Print | None:
    if text is None:
        return None
    facts = {"base": 1000, **table.get(name, {}), **entry.get(name, {})}
    facts["adjust"] = tuple(facts.get("adjust", (0, "")))
    return Print(text, **facts)
