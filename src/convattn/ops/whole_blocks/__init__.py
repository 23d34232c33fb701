"""Whole blocks as operators: pooling, the layers between, and the gates.

In evaluation a block is one operator: an image goes through all of it while it is in the cache, and
nothing else is written than the output. A training step is one operator forward and one for all
gradients, in the files `_NAME_training.py`. The block itself is the reference: where an operator
does not take what comes it returns None, and the block goes on by its own steps.
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
