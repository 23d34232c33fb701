"""Checks of arguments and of tensors handed to blocks, each with an error that carries the fix."""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor, nn

from convattn.core.errors import ArgumentError, InputError

__all__ = [
    "check_choice",
    "check_feature_map",
    "check_norm_input",
    "check_number",
    "check_odd",
    "check_positive",
]

_RANGES = {
    "a finite number": (-sys.float_info.max, sys.float_info.max),
    "a positive number": (math.ulp(0), sys.float_info.max),
    "a number from 0 to 1": (0, 1),
}


def check_positive(owner: str, name: str, value: object, least: int = 1) -> None:
    """Raise `ArgumentError` unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(
            f"{owner}: {name} must be an integer of at least {least}, got {value!r}"
        )


def check_number(owner: str, name: str, value: object, what: str = "a positive number") -> None:
    """Raise `ArgumentError` unless `value` is `what`: a key of `_RANGES`."""
    low, high = _RANGES[what]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ArgumentError(f"{owner}: {name} must be {what}, got {value!r}")


def check_odd(owner: str, name: str, value: object) -> None:
    """Raise `ArgumentError` unless `value` is an odd integer of at least 1."""
    check_positive(owner, name, value)
    assert isinstance(value, int)
    if value % 2 == 0:
        raise ArgumentError(
            f"{owner}: {name} must be odd so that the map keeps its size, got {value}; "
            f"use {value - 1} or {value + 1}"
        )


def check_choice(owner: str, name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise `ArgumentError` unless `value` is one of `choices`, and of its kind."""
    kinds = (  # True == 1 == 1.0
        isinstance(value, type(choice)) and isinstance(value, bool) == isinstance(choice, bool)
        for choice in choices
        if value == choice
    )
    if not any(kinds):
        accepted = ", ".join(repr(choice) for choice in choices)
        raise ArgumentError(f"{owner}: {name} must be one of {accepted}; got {value!r}")


def check_feature_map(block: nn.Module, x: object, channels: int | None, ndim: int = 2) -> None:
    """Raise `InputError` unless `x` is a floating feature map that fits `block`.

    Args:
        block: named in the error.
        x: what was handed in; (N, channels, *axes) is accepted.
        channels: None accepts any number.
        ndim: number of axes behind the channels; each must have at least one position.
    """
    problem = _problem(block, x, channels, ndim)
    if problem:
        raise InputError(f"{type(block).__name__}(channels={channels}) {problem}")


def _problem(block: nn.Module, x: object, channels: int | None, ndim: int) -> str:
    """Called for every map: nothing is computed that a good one does not need."""
    if not isinstance(x, Tensor):
        return (
            f"expects a torch.Tensor, got {type(x).__module__}.{type(x).__name__}. "
            "For a NumPy array use torch.from_numpy(x)."
        )
    if x.dim() != ndim + 2:
        axes = {1: "L", 2: "H, W", 3: "D, H, W"}[ndim]
        fix = " For one image use x.unsqueeze(0)." if x.dim() == ndim + 1 else ""
        return f"expects (N, C, {axes}), got {x.dim()} dimensions {tuple(x.shape)}.{fix}"
    if not x.is_floating_point():
        return f"expects floating point, got {x.dtype}. Convert with x.float() / 255."
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # shapes are tensors then
        return ""
    shape = x.shape
    if channels is not None and shape[1] != channels:
        return (
            f"got a tensor with {shape[1]} channels, shape {tuple(shape)}. "
            f"Build it with channels={shape[1]}."
        )
    if 0 in shape[1:]:
        return f"expects at least one channel and position, got shape {tuple(shape)}."
    weight = _first_parameter(block)
    if (
        weight is not None
        and weight.dtype != x.dtype
        and not torch.is_autocast_enabled(x.device.type)
    ):
        return (
            f"holds {weight.dtype} weights but got {x.dtype} input. "
            f"Use torch.autocast, or x.to({weight.dtype})."
        )
    return ""


def _first_parameter(module: nn.Module) -> Tensor | None:
    """As next(module.parameters(), None), whose generators take longer than all other checks."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        if child is not None and (found := _first_parameter(child)) is not None:
            return found
    return None


def check_norm_input(block: nn.Module, values: int) -> None:
    """Raise `InputError` when batch norm would train on one value per channel."""
    if block.training and values == 1:
        raise InputError(
            f"{type(block).__name__}'s batch norm needs more than one value per channel in "
            "training, got batch 1 on a map with one position. Use a larger batch or map, "
            "or call .eval() on the block."
        )
