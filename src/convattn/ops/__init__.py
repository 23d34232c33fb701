"""What the blocks are made of: pooling, channel mixing, gating. Every gate block runs through it.

Each operator here is its eager reference, readable and exact.
"""

from convattn.ops.apply_gates import apply_gates
from convattn.ops.mix_channels import mix_channels
from convattn.ops.pool import global_mean, strip_means

__all__ = ["apply_gates", "global_mean", "mix_channels", "strip_means"]
