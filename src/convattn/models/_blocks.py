"""Blocks into a network that was just built: its own slots where it has them, surgery elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from convattn.blocks import block_class
from convattn.blocks._base import Block
from convattn.core.checks import check_choice, check_positive
from convattn.core.errors import ArgumentError
from convattn.core.inserts import Insert
from convattn.insertion import Place, insert, positions, replace
from convattn.insertion.slots import Where, fill_slots, filled_by

__all__ = ["put_blocks", "usual_position"]

# the usual position of a network without slots is the first of these that it has
_USUAL = ("after_depthwise", "before_add", "stage_end")


def put_blocks(
    model: nn.Module,
    inserts: Sequence[Insert],
    *,
    arguments: Mapping[str, Any] | None = None,
    init: str = "authors",
    stages: Sequence[int] | None = None,
    per_stage: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Put each block at its position; see `create_model` for the arguments.

    Args:
        model: changed in place.
        inserts: blocks with positions.
        arguments: of the block; of several blocks, by their names.
        init: "authors" or "identity".
        stages: only in these.
        per_stage: arguments that differ by stage.

    What fills slots is noted in the network's `origin`; what is inserted has its own record.
    """
    _check_options(arguments, init, stages, per_stage)
    blocks = [block for block, _ in inserts]
    if blocks == ["none"] and inserts[0].at is None:
        given = arguments or per_stage or stages
        if given:
            raise ArgumentError(
                f"arguments of a block, {given!r}, given without a block; name one with "
                "attention=..."
            )
        return
    own = {each: _own_arguments(each.block, blocks, arguments or {}) for each in inserts}
    filled = [each for each in inserts if _put(model, each, own[each], init, stages, per_stage)]
    origin = getattr(model, "origin", None)
    if filled and isinstance(origin, dict):
        one = filled[0] if len(filled) == 1 else None
        options: dict[str, Any] = {
            "attention": one.block if one else ",".join(f"{block}@{at}" for block, at in filled),
            "at": one.at if one else None,
            "attention_args": own[one] if one else {each.block: own[each] for each in filled},
            "attention_init": init,
            "attention_stages": stages,
            "attention_per_stage": per_stage,
        }
        origin.update((name, value) for name, value in options.items() if value)


def _check_options(arguments: object, init: object, stages: object, per_stage: object) -> None:
    check_choice("create_model", "attention_init", init, ("authors", "identity"))
    for name, value in (("attention_args", arguments), ("attention_per_stage", per_stage)):
        if value is not None and not isinstance(value, Mapping):
            raise ArgumentError(
                f"create_model: {name} must be a mapping from the block's arguments to values, "
                f"got {value!r}"
            )
    if stages is None:
        return
    if isinstance(stages, str) or not isinstance(stages, Sequence):
        raise ArgumentError(
            f"create_model: attention_stages must be numbers of stages, such as (2, 3); "
            f"got {stages!r}"
        )
    for stage in stages:
        check_positive("create_model", "each of attention_stages", stage)


def usual_position(model: nn.Module) -> str | None:
    """Where blocks of all kinds can be compared: the network's own default, or the first of
    after_depthwise, before_add and stage_end that it has; None where it has none of them."""
    default = getattr(model, "default_position", None)
    return default if isinstance(default, str) else _first_of(_USUAL, model)


def _first_of(wanted: Sequence[str], model: nn.Module) -> str | None:
    have = positions(model)
    return next((name for name in wanted if name in have), None)


def _own_arguments(
    block: str, blocks: list[str], arguments: Mapping[str, Any]
) -> Mapping[str, Any]:
    if len(blocks) == 1:
        return arguments
    strange = [name for name, own in arguments.items() if name not in blocks or not _is_dict(own)]
    if strange:
        raise ArgumentError(
            f"with several blocks, their arguments are given by block, as "
            f"{{{blocks[0]}: {{...}}}}; got {strange[0]!r}: {arguments[strange[0]]!r}"
        )
    own: Mapping[str, Any] = arguments.get(block, {})
    return own


def _is_dict(value: object) -> bool:
    return isinstance(value, Mapping)


def _put(
    model: nn.Module, each: Insert, arguments: Mapping[str, Any], init: str,
    stages: Sequence[int] | None, per_stage: Mapping[str, Sequence[Any]] | None,
) -> bool:  # fmt: skip
    """Whether slots were filled; else the block was inserted."""
    kind = block_class(each.block)
    ours = isinstance(getattr(model, "default_position", None), str)
    if ours and (each.at is None or each.at in filled_by(model, each.block)):
        for where in _places(model, kind, each.at, stages):
            fill_slots(model, each.block, where, init=init, per_stage=per_stage, **arguments)
        return True
    if each.block == "none":
        return False
    by_stage, at = _by_stage(per_stage), each.at
    if kind.family == "conv" and at is not None:

        def is_convolution(place: Place) -> bool:
            if not isinstance(model.get_submodule(place.path), nn.Conv2d):
                raise ArgumentError(
                    f"{each.block} stands in for convolutions, and at {at!r} {place.path} is a "
                    f"{place.module}; name convolutions by their paths, as {each.block}@*.conv2"
                )
            return True

        replace(
            model, at, each.block, init=init, stages=stages, where=is_convolution, args=by_stage,
            **arguments,
        )  # fmt: skip
        return False
    if at is None and kind.family != "conv":
        at = _first_of((*kind.info.positions, *_USUAL), model)
    insert(model, each.block, at, init=init, stages=stages, args=by_stage, **arguments)
    return False


def _by_stage(per_stage: Mapping[str, Sequence[Any]] | None) -> list[dict[str, Any]] | None:
    if not per_stage:
        return None
    lengths = {len(values) for values in per_stage.values()}
    if len(lengths) > 1:
        raise ArgumentError(f"per stage, all arguments need as many values; got {per_stage!r}")
    return [{name: per_stage[name][i] for name in per_stage} for i in range(lengths.pop())]


def _places(
    model: nn.Module, kind: type[Block], at: str | None, stages: Sequence[int] | None
) -> list[Where]:
    """Where blocks of a kind go in a network with slots."""
    name = kind.__module__.rpartition(".")[2]
    usual = (Where(str(model.default_position)),)
    places = getattr(model, "places", {}).get(name, usual) if at is None else (Where(at),)
    if stages is None:
        return list(places)
    return [Where(at, tuple(stages)) for at in dict.fromkeys(place.at for place in places)]
