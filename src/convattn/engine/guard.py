"""The guard against NaN and infinity: a bad step changes nothing and is named."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["BufferSnapshot", "first_non_finite", "non_finite_gradient"]


class BufferSnapshot:
    """A copy of a model's buffers: one NaN pixel reaches batch-norm statistics before any loss."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._copies = [torch.empty_like(buffer) for buffer in self._buffers]

    def take(self) -> None:
        """Remember the buffers as they are."""
        for buffer, copy in zip(self._buffers, self._copies, strict=True):
            copy.copy_(buffer)

    def restore(self) -> None:
        """Put the buffers back as they were."""
        for buffer, copy in zip(self._buffers, self._copies, strict=True):
            buffer.copy_(copy)


@torch.no_grad()
def first_non_finite(model: nn.Module, forward: Callable[[], object]) -> str:
    """Run `forward` once and name the first module with a NaN or infinity, "" if there is none."""
    found: list[str] = []

    def is_bad(value: object) -> bool:
        return isinstance(value, Tensor) and not bool(torch.isfinite(value).all())

    def watch(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def hook(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if found:
                return
            if any(is_bad(x) for x in inputs):
                found.append(f"the input of {name}")
            elif any(is_bad(p) for p in module.parameters(recurse=False)):
                found.append(f"the weights of {name}")
            elif is_bad(output):
                found.append(f"the output of {name}")

        return hook

    leaves = [(name, m) for name, m in model.named_modules() if not list(m.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""


def non_finite_gradient(model: nn.Module) -> str:
    """Name the gradient where a NaN or infinity began: backward, so the last of the network."""
    bad = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
    ]
    return f"the gradient of {bad[-1]}" if bad else "the norm of the gradient"
