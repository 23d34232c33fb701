"""What blocks run on here."""

from __future__ import annotations

from torch import cuda

from convattn.core.environment import environment
from convattn.ops import kernels

__all__ = ["installation"]


def installation() -> str:
    """Versions, machine, and which operators are live, a line each."""
    facts = environment("cuda" if cuda.is_available() else "cpu")
    machine = ("python", "system", "processor", "device", "threads")
    lines = facts["versions"] | {name: facts[name] for name in machine}
    lines["operators"] = kernels()
    return "\n".join(f"{name}: {fact}" for name, fact in lines.items())
