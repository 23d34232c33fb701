"""What a model costs: parameters, operations in a named convention, latency, peak memory.

`convattn.cost(model)` counts. It is also the name of this package, and Python binds the package to
`convattn.cost` as soon as anything imports it; so the package itself can be called, and the call
means the same whichever of the two the name holds.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from convattn.cost.conventions import CONVENTIONS
from convattn.cost.count import cost
from convattn.cost.latency import Latency, measure, measure_one
from convattn.cost.memory import Memory, measure_memory
from convattn.cost.result import Cost, Row, format_count

__all__ = [
    "CONVENTIONS",
    "Cost",
    "Latency",
    "Memory",
    "Row",
    "cost",
    "format_count",
    "measure",
    "measure_memory",
    "measure_one",
]


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Cost:
        return cost(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
