"""Means of a feature map along each axis, in one read."""

from convattn.ops.strip_means.op import strip_means

__all__ = ["strip_means"]
