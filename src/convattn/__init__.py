"""convattn: every attention block for convolutional networks, exact, fast, pluggable, compared.

Names are resolved when first used, so that importing the package is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convattn import authors as authors
    from convattn.authors import load_authors as load_authors
    from convattn.blocks import block_info as block_info
    from convattn.blocks import create_block as create_block
    from convattn.blocks import list_blocks as list_blocks
    from convattn.compare.sensitivity import sensitivity as sensitivity
    from convattn.cost import cost as cost
    from convattn.doctor import audit as audit
    from convattn.doctor import doctor as doctor
    from convattn.explain import gate_maps as gate_maps
    from convattn.insertion import find as find
    from convattn.insertion import fold as fold
    from convattn.insertion import freeze_host as freeze_host
    from convattn.insertion import insert as insert
    from convattn.insertion import param_groups as param_groups
    from convattn.insertion import plan as plan
    from convattn.insertion import rebuild as rebuild
    from convattn.insertion import remove as remove
    from convattn.insertion import replace as replace
    from convattn.models import create_model as create_model
    from convattn.models import list_models as list_models
    from convattn.tables import published as published

__version__ = "0.1.0"

_HOME = {
    "audit": "doctor",
    "authors": "",
    "block_info": "blocks",
    "cost": "cost",
    "create_block": "blocks",
    "create_model": "models",
    "doctor": "doctor",
    "find": "insertion",
    "fold": "insertion",
    "freeze_host": "insertion",
    "gate_maps": "explain",
    "insert": "insertion",
    "list_blocks": "blocks",
    "list_models": "models",
    "load_authors": "authors",
    "param_groups": "insertion",
    "plan": "insertion",
    "published": "tables",
    "rebuild": "insertion",
    "remove": "insertion",
    "replace": "insertion",
    "sensitivity": "compare.sensitivity",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'convattn' has no attribute {name!r}")
    home = _HOME[name]
    if not home:
        return importlib.import_module(f"convattn.{name}")
    return getattr(importlib.import_module(f"convattn.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
