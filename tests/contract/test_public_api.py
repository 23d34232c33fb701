"""The package's names: one that is gone or new is a decision, and is made here."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import convattn

NAMES = [
    "audit", "authors", "block_info", "cost", "create_block", "create_model", "doctor", "find",
    "fold", "freeze_host", "gate_maps", "insert", "list_blocks", "list_models", "load_authors",
    "param_groups", "plan", "published", "rebuild", "remove", "replace", "sensitivity",
]  # fmt: skip


def test_the_names_are_these() -> None:
    assert sorted(convattn.__all__) == NAMES
    assert len(set(convattn.__all__)) == len(convattn.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there_and_explained(name: str) -> None:
    assert name in dir(convattn)
    assert (inspect.getdoc(getattr(convattn, name)) or "").strip()


def test_type_checkers_see_the_same_names() -> None:
    """Names are resolved when first used; the imports for type checkers must not lag behind."""
    tree = ast.parse(Path(convattn.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    seen = {a.asname for node in imports for a in node.names if a.asname == a.name}
    assert seen == set(convattn.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'creat_block'"):
        _ = convattn.creat_block  # type: ignore[attr-defined]
