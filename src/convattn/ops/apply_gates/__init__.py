"""Multiply a feature map by gates: one read, one write."""

from convattn.ops.apply_gates.op import apply_gates

__all__ = ["apply_gates"]
