"""Coordinate attention in evaluation as one operator."""

from convattn.ops.coordinate_attention.op import coordinate_attention

__all__ = ["coordinate_attention"]
