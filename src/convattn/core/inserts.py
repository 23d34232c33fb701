"""What the option `attention` says: blocks, each with the position where it goes."""

from __future__ import annotations

import re
from typing import NamedTuple

from convattn.core.errors import ArgumentError

__all__ = ["Insert", "parse_inserts"]


class Insert(NamedTuple):
    """One block and its position; None leaves it to the network and the block's authors."""

    block: str
    at: str | None


def parse_inserts(attention: str, at: str | None = None) -> tuple[Insert, ...]:
    """The blocks of "ca", "ca@after_conv2" or "se@stage_end,ca@re:layer[34].*".

    Args:
        attention: a block, a block@position, or several of these with commas between; a comma
            that no block@ follows belongs to the position.
        at: the position of a single block that has none.

    Raises:
        ArgumentError: a position is missing, empty or given twice.
    """
    found = []
    for text in re.split(r",\s*(?=\w+@)", attention):
        block, sign, place = text.partition("@")
        if sign and not (block.strip() and place.strip()):
            raise ArgumentError(f"attention {text!r} must be BLOCK@POSITION, as ca@after_conv2")
        found.append(Insert(block.strip(), place.strip() or None))
    if any(insert.at for insert in found) and at is not None:
        raise ArgumentError(
            f"the position is given twice, in attention {attention!r} and as at {at!r}; keep one"
        )
    if any("," in insert.block for insert in found) or (
        len(found) > 1 and not all(insert.at for insert in found)
    ):
        raise ArgumentError(
            f"attention {attention!r} names several blocks, and then each needs its position, "
            "as se@stage_end,ca@after_depthwise"
        )
    return tuple(Insert(insert.block, insert.at or at) for insert in found)
