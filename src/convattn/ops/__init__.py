"""What the blocks are made of: pooling, channel mixing, gating. Every gate block runs through it.

An operator is a folder: its reference, readable and exact, and the operator registered with
PyTorch, whose CPU kernels are in csrc/. What the kernels do not take goes to the reference.
"""

from convattn.ops._library import kernels, reference_only
from convattn.ops.apply_gates import apply_gates
from convattn.ops.attend import attend
from convattn.ops.global_mean import global_mean
from convattn.ops.mix_channels import mix_channels
from convattn.ops.strip_means import strip_means
from convattn.ops.whole_blocks import (
    cbam,
    coordinate_attention,
    efficient_channel_attention,
    global_context,
    local_attention,
    squeeze_excitation,
    style_recalibration,
    triplet,
)

__all__ = [
    "apply_gates",
    "attend",
    "cbam",
    "coordinate_attention",
    "efficient_channel_attention",
    "global_context",
    "global_mean",
    "kernels",
    "local_attention",
    "mix_channels",
    "reference_only",
    "squeeze_excitation",
    "strip_means",
    "style_recalibration",
    "triplet",
]
