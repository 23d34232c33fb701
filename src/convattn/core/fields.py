"""Fields of a configuration: checked by their types, made as plain as a YAML file has them."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from convattn.core.errors import ArgumentError

__all__ = ["check_types", "plain", "rising"]


def check_types(config: object) -> None:
    """Raise `ArgumentError` for a value of a wrong type, or one that is not among the choices."""
    hints = get_type_hints(type(config))
    for each in dataclasses.fields(config):  # type: ignore[arg-type]
        value, hint = getattr(config, each.name), hints[each.name]
        if get_origin(hint) is Literal:
            choices = get_args(hint)
            if value not in choices:
                accepted = ", ".join(map(repr, choices))
                raise ArgumentError(f"{each.name} must be one of {accepted}; got {value!r}")
            continue
        kinds = get_args(hint) if get_origin(hint) is UnionType else (hint,)
        kinds = tuple(get_origin(kind) or kind for kind in kinds)
        fits = isinstance(value, (*kinds, int) if float in kinds else kinds)
        if not fits or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(_KINDS[kind] for kind in kinds)
            raise ArgumentError(f"{each.name} must be {names}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ArgumentError(f"{each.name} must be finite, got {value!r}")


_KINDS = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false",
    dict: "names with values", list: "a list", NoneType: "null",
}  # fmt: skip


def rising(values: list[Any]) -> bool:
    """Whether these are numbers, at least one, each greater than 0 and than the one before."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return 0 < len(numbers) == len(values) and all(a < b for a, b in pairwise([0, *numbers]))


def plain(value: Any) -> Any:
    """Tuples as lists, at any depth."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
