"""Host and blocks apart: their own learning rates, or the host frozen."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from convattn.blocks._base import Block
from convattn.core.errors import ArgumentError
from convattn.insertion.surgery import checked_module

__all__ = ["block_parameters", "freeze_host", "param_groups"]

Host = TypeVar("Host", bound=nn.Module)


def param_groups(
    model: nn.Module, *, lr: float, block_lr: float, **options: Any
) -> list[dict[str, Any]]:
    """Parameters for an optimizer, the host's and the blocks' apart; each is in one group.

    Args:
        model: with blocks.
        lr: for the host.
        block_lr: for the blocks; more than `lr` where the host is pretrained.
        **options: for both groups, such as weight_decay.

    Raises:
        ArgumentError: the model has no block, or no parameter outside of blocks.

    Example:
        >>> import torch
        >>> from convattn import create_model, param_groups
        >>> model = create_model("mobilenet_v2", attention="ca")
        >>> optimizer = torch.optim.SGD(param_groups(model, lr=0.01, block_lr=0.1))
    """
    host, blocks = _split(model)
    return [
        {"name": "host", "params": host, "lr": lr, **options},
        {"name": "blocks", "params": blocks, "lr": block_lr, **options},
    ]


def freeze_host(model: Host) -> Host:
    """Let gradients reach the blocks alone: `requires_grad` is off for all other parameters.

    Batch norms of the host still update their statistics in training mode.

    Returns:
        The model itself.

    Raises:
        ArgumentError: the model has no block, so that nothing would be left to train.
    """
    for parameter in _split(model)[0]:
        parameter.requires_grad_(False)
    return model


def block_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of all blocks, each once."""
    found: dict[int, nn.Parameter] = {}
    for module in checked_module(model).modules():
        if isinstance(module, Block):
            found.update((id(p), p) for p in module.parameters())
    return list(found.values())


def _split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    in_blocks = {id(p): p for p in block_parameters(model)}
    host = [p for p in model.parameters() if id(p) not in in_blocks]
    if not in_blocks:
        raise ArgumentError(
            f"{type(model).__name__} has no block with parameters; insert one first: "
            "convattn.insert(model, 'ca')"
        )
    return host, list(in_blocks.values())
