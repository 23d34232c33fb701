"""What ails a model, and where somebody's block differs from its authors': findings with fixes.

`convattn.doctor(model)` examines. It is also the name of this package, and Python binds the package
to `convattn.doctor` as soon as anything imports it; so the package itself can be called, and the
call means the same whichever of the two the name holds.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from convattn.doctor.audit import audit
from convattn.doctor.health import doctor
from convattn.doctor.installation import installation
from convattn.doctor.report import Finding, Report

__all__ = ["Finding", "Report", "audit", "doctor", "installation"]


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Report:
        return doctor(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
