"""The CA_Block of a blog post that many copied: Coordinate Attention with an idle batch norm."""

from __future__ import annotations

from torch import Tensor, nn

from convattn.authors._source import Source, Unused
from convattn.blocks.ca import CA

__all__ = ["SOURCES"]


def _ca_block(channel: int, h: int, w: int, reduction: int = 16) -> CA:
    # h and w fixed the size of the map there; ours takes any
    block = CA(channel, reduction=reduction, min_hidden=1, bias=False, act="relu", norm=False)
    _add_idle_norm(block, {})
    return block


def _add_idle_norm(block: nn.Module, state_dict: dict[str, Tensor]) -> None:
    if not isinstance(block, CA) or hasattr(block, "idle"):
        return
    gates = {name: getattr(block, name) for name in ("conv_h", "conv_w")}
    for name in gates:
        delattr(block, name)
    norm = Unused(nn.BatchNorm2d(block.conv1.out_channels))
    block.idle = norm.to(block.conv1.weight)
    for name, conv in gates.items():  # behind the norm, the order of their state dict
        block.add_module(name, conv)


SOURCES = (
    Source(
        ("003_ef5982166b6b670b.txt:listing:CA_Block",),
        _ca_block,
        keys=((r"conv1", "conv_1x1"), (r"idle", "bn"), (r"conv_(h|w)", r"F_\1")),
        adapt=_add_idle_norm,
    ),
)
