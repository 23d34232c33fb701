"""A published row against our network: is the print what one counts?"""

from __future__ import annotations

import json
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from convattn import authors
from convattn.blocks import create_block
from convattn.core.errors import MissingExtraError
from convattn.cost import cost
from convattn.models import create_model
from convattn.models.dense import assemble, backbone_of
from convattn.tables.rows import Print, Published

__all__ = ["STATUSES", "Number", "Recomputed", "Status", "recompute"]

Status = Literal[
    "reproduced", "explained", "size only", "differs", "not built", "scores only"
]  # fmt: skip
# from the best to the worst that one number gives the row
STATUSES: tuple[Status, ...] = typing.get_args(Status)


@dataclass(frozen=True)
class Number:
    """A print and what was recomputed of it.

    Attributes:
        printed: the print.
        count: recomputed, in ones.
        text: the count with the print's unit and digits.
        adjusted: the same after the print's `adjust`.
    """

    printed: Print
    count: int
    text: str
    adjusted: str

    @property
    def status(self) -> Status:
        """Reproduced, explained by the adjustment, or different."""
        if self.printed.adjust[0] and self.text != self.adjusted == self.printed.text:
            return "explained"
        return "reproduced" if self.adjusted == self.printed.text else "differs"

    @property
    def reason(self) -> str:
        """Why it differs, or what explains it; "" where it is reproduced."""
        if self.status == "explained":
            return f"{self.printed.adjust[0]:+,}: {self.printed.adjust[1]}"
        return self.printed.differs if self.status == "differs" else ""


@dataclass(frozen=True)
class Recomputed:
    """A row and its numbers.

    Attributes:
        row: as published.
        params: None where no size is printed or the network is not built.
        macs: likewise for operations, and where they are not counted here.
        missing: what is not installed, and is needed to build the network.
    """

    row: Published
    params: Number | None
    macs: Number | None
    missing: str = ""

    @property
    def status(self) -> Status:
        """That of the row: of its worse number."""
        found = [number.status for number in (self.params, self.macs) if number is not None]
        if not found:
            return "not built" if self.row.not_built or self.missing else "scores only"
        if self.row.macs is not None and self.row.macs.not_counted:
            found.append("size only")
        return max(found, key=STATUSES.index)

    @property
    def contradicts(self) -> bool:
        """Whether a number differs without a reason, or has a reason and does not differ."""
        numbers = [number for number in (self.params, self.macs) if number is not None]
        return any((n.status == "differs") != bool(n.printed.differs) for n in numbers)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; `published` and `recomputed` are never mixed."""
        row = self.row
        published = {"params": row.params, "macs": row.macs}
        recomputed = {"params": self.params, "macs": self.macs}
        return {
            "paper": row.paper,
            "table": row.table,
            "setting": row.setting,
            "model": row.model,
            "attention": row.attention,
            "source": row.source,
            "verified": row.verified,
            "network": row.network,
            "status": self.status,
            "published": {
                **{name: number and number.text for name, number in published.items()},
                "scores": dict(row.scores),
            },
            "recomputed": {
                name: number
                and {
                    "count": number.count,
                    "text": number.adjusted,
                    "base": number.printed.base,
                    "convention": number.printed.convention or None,
                    "status": number.status,
                    "reason": number.reason or None,
                }
                for name, number in recomputed.items()
            },
            "not_built": row.not_built or self.missing or None,
            "not_counted": (row.macs and row.macs.not_counted) or None,
        }


def recompute(row: Published) -> Recomputed:
    """Count parameters and operations of the row's network, at 224x224 for one image.

    Nothing is allocated or computed for it. A network is counted once, however many rows have it.
    """
    if row.network is None:
        return Recomputed(row, None, None)
    key = json.dumps(row.network, sort_keys=True)
    try:
        _built(key)
    except MissingExtraError as error:
        return Recomputed(row, None, None, str(error))
    params = macs = None
    if row.params is not None:
        params = _number(row.params, _parameters(key, row.params.trainable))
    if row.macs is not None and not row.macs.not_counted:
        macs = _number(row.macs, _operations(key, row.macs.convention))
    return Recomputed(row, params, macs)


def _number(printed: Print, count: int) -> Number:
    adjusted = count + printed.adjust[0]
    return Number(printed, count, printed.as_printed(count), printed.as_printed(adjusted))


@cache
def _parameters(key: str, trainable: bool) -> int:
    parameters = _built(key).parameters()
    return sum(p.numel() for p in parameters if p.requires_grad or not trainable)


@cache
def _operations(key: str, convention: str) -> int:
    return cost(_built(key), (1, 3, 224, 224), convention=convention).macs


@cache
def _built(key: str) -> nn.Module:
    arguments = json.loads(key)
    with torch.device("meta"):  # sizes alone matter
        if "block" in arguments:
            return create_block(arguments.pop("block"), **arguments)
        if "source" in arguments:
            return authors.create(arguments.pop("source"), **arguments)
        if "dense" in arguments:
            return _detector(**arguments)
        return create_model(arguments.pop("model"), **arguments)


def _detector(
    dense: str, backbone: str, classes: int, arguments: dict[str, Any], **blocks: Any
) -> nn.Module:
    host, own, rest = backbone_of(dense, backbone, arguments)
    return assemble(dense, create_model(host, **own, **blocks), classes, **rest)
