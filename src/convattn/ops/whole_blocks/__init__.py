"""Whole blocks in evaluation, one operator each: pooling, the layers between, and the gates.

An image goes through all of it while it is in the cache, and nothing else is written than the
output. The block itself is the reference: where an operator does not take what comes it returns
None, and the block goes on by its own steps.
"""

from convattn.ops.whole_blocks.channel_gates import (
    efficient_channel_attention,
    squeeze_excitation,
    style_recalibration,
)
from convattn.ops.whole_blocks.context import global_context
from convattn.ops.whole_blocks.coordinate_attention import coordinate_attention
from convattn.ops.whole_blocks.local_attention import local_attention
from convattn.ops.whole_blocks.position_gates import cbam, triplet

__all__ = [
    "cbam",
    "coordinate_attention",
    "efficient_channel_attention",
    "global_context",
    "local_attention",
    "squeeze_excitation",
    "style_recalibration",
    "triplet",
]
