"""Checks of arguments and of tensors handed to blocks, each with an error that carries the fix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.core.errors import ArgumentError, InputError

__all__ = ["check_choice", "check_feature_map", "check_norm_input", "check_odd", "check_positive"]


def check_positive(owner: str, name: str, value: object) -> None:
    """Raise `ArgumentError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{owner}: {name} must be an integer of at least 1, got {value!r}")


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
    """Raise `ArgumentError` unless `value` is one of `choices`."""
    if value not in choices:
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
    owner = f"{type(block).__name__}(channels={channels})"
    axes = {1: "L", 2: "H, W", 3: "D, H, W"}[ndim]
    if not isinstance(x, Tensor):
        raise InputError(
            f"{owner} expects a torch.Tensor, got {type(x).__module__}.{type(x).__name__}. "
            "For a NumPy array use torch.from_numpy(x)."
        )
    if x.dim() != ndim + 2:
        fix = " For one image use x.unsqueeze(0)." if x.dim() == ndim + 1 else ""
        raise InputError(
            f"{owner} expects (N, C, {axes}), got {x.dim()} dimensions {tuple(x.shape)}.{fix}"
        )
    if not x.is_floating_point():
        raise InputError(
            f"{owner} expects floating point, got {x.dtype}. Convert with x.float() / 255."
        )
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # shapes are tensors then
        return
    if channels is not None and x.shape[1] != channels:
        raise InputError(
            f"{owner} got a tensor with {x.shape[1]} channels, shape {tuple(x.shape)}. "
            f"Build it with channels={x.shape[1]}."
        )
    if 0 in x.shape[1:]:
        raise InputError(
            f"{owner} expects at least one channel and position, got shape {tuple(x.shape)}."
        )
    weight = next(block.parameters(), None)
    if (
        weight is not None
        and weight.dtype != x.dtype
        and not torch.is_autocast_enabled(x.device.type)
    ):
        raise InputError(
            f"{owner} holds {weight.dtype} weights but got {x.dtype} input. "
            f"Use torch.autocast, or x.to({weight.dtype})."
        )


def check_norm_input(block: nn.Module, values: int) -> None:
    """Raise `InputError` when batch norm would train on one value per channel."""
    if block.training and values == 1:
        raise InputError(
            f"{type(block).__name__}'s batch norm needs more than one value per channel in "
            "training, got batch 1 on a map with one position. Use a larger batch or map, "
            "or call .eval() on the block."
        )
