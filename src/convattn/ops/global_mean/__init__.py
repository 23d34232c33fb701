"""Mean of a feature map over its positions."""

from convattn.ops.global_mean.op import global_mean

__all__ = ["global_mean"]
