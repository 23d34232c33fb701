"""The gates of every gate block of a model, on given images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convattn.blocks._base import GateBlock
from convattn.blocks.none import NoAttention
from convattn.core.errors import ArgumentError, InputError

__all__ = ["GateMap", "gate_maps"]


@dataclass(frozen=True, eq=False)
class GateMap:
    """What one block multiplied by.

    Attributes:
        path: of the block in the model, "" for the model itself.
        block: the block's name, such as "ca".
        gates: as the block's `gates(x)` gave them, on the CPU: for CA (N, C, 1, W), (N, C, H, 1).
        map: float32 (N, H, W) of the block's input size: the product of all gates, averaged over
            the channels.
    """

    path: str
    block: str
    gates: tuple[Tensor, ...]
    map: Tensor


def gate_maps(model: nn.Module, images: Tensor) -> list[GateMap]:
    """Run the model once in eval mode and keep the gates of every gate block.

    The model is as before afterwards, also on an error: modes, hooks, methods, buffers.

    Args:
        model: a network with gate blocks, or such a block; "none" has no gates and is skipped.
        images: what the model takes, (N, 3, H, W) in floating point, prepared as for training;
            moved to the model's device.

    Returns:
        One per call of a block, in the order of the calls.

    Raises:
        ArgumentError: no gate block in the model.
        InputError: `images` is no batch of floating-point images, or the model refuses its size.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps hides its modules
    blocks = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, GateBlock) and not isinstance(module, NoAttention)
    }
    if not blocks:
        raise ArgumentError(
            f"gate_maps: {type(model).__name__} has no gate block. Build a network with some, "
            'such as convattn.create_model("mobilenet_v2", attention="ca")'
        )
    _check_images(images)
    first = next(model.parameters(), None)
    found: list[GateMap] = []
    with _eval(model), torch.no_grad(), ExitStack() as stack:
        for path, block in blocks.items():
            stack.enter_context(_recorded(path, block, found))
        model(images if first is None else images.to(first.device))
    return found


def _check_images(images: object) -> None:
    if not isinstance(images, Tensor):
        raise InputError(f"gate_maps: images must be a torch.Tensor, got {type(images).__name__}")
    if images.dim() < 3 or images.shape[0] == 0:
        raise InputError(f"gate_maps: images must be (N, 3, H, W), got {tuple(images.shape)}")
    if images.dim() == 3 and images.shape[0] in (1, 3):
        raise InputError(
            f"gate_maps: images must be (N, 3, H, W), got {tuple(images.shape)}. For one image "
            "use image.unsqueeze(0)"
        )
    if not images.is_floating_point():
        raise InputError(
            f"gate_maps: images must be floating point as in training, got {images.dtype}. "
            "Convert with images.float() / 255 and normalise as the model was trained"
        )


@contextmanager
def _eval(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _recorded(path: str, block: GateBlock, found: list[GateMap]) -> Iterator[None]:
    """Append a `GateMap` for each call of `block` inside.

    `gates` is overlaid on the instance, so that what `forward` computes is what is kept. A
    forward that never calls it (a fused one) has its gates computed once more, after the call.
    """
    kept: list[tuple[Tensor, ...]] = []
    original = block.gates

    def gates(x: Tensor) -> tuple[Tensor, ...]:
        made = original(x)
        kept.append(made)
        return made

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        made = kept.pop() if kept else original(args[0])
        name = type(block).__module__.rpartition(".")[2]
        cpu = tuple(gate.detach().cpu() for gate in made)
        found.append(GateMap(path, name, cpu, _map(cpu, args[0])))

    before = vars(block).get("gates")
    handle = block.register_forward_hook(after)
    vars(block)["gates"] = gates
    try:
        yield
    finally:
        handle.remove()
        if before is None:
            del vars(block)["gates"]
        else:
            vars(block)["gates"] = before


def _map(gates: tuple[Tensor, ...], x: Tensor) -> Tensor:
    """(N, *axes): the product of gates broadcastable to (N, C, *axes), averaged over C."""
    product = torch.ones(())
    for gate in gates:
        product = product * gate.float()
    if product.dim() < 2:  # no gate at all
        return torch.ones(x.shape[0], *x.shape[2:])
    return product.mean(1).expand(x.shape[0], *x.shape[2:]).contiguous()
