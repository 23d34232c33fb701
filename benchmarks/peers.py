"""What the blocks are compared with; timm's layers have weights of their own, the others ours."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn import ops

__all__ = ["PEERS", "peer"]

PEERS = ("eager", "compile", "timm")
_TIMM = {"ca": "coord", "se": "se", "eca": "eca", "cbam": "cbam"}


class AuthorsCA(nn.Module):
    """Coordinate attention in the steps of its authors' code, on the layers of our block."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Pooling by two operators, convolutions on the joined strips, two multiplications."""
        block, (height, width) = self.block, x.shape[2:]
        rows = F.adaptive_avg_pool2d(x, (height, 1))
        columns = F.adaptive_avg_pool2d(x, (1, width)).permute(0, 1, 3, 2)
        mixed = block.bn1(block.conv1(torch.cat((rows, columns), 2)))
        encoded = mixed * (F.relu6(mixed + 3) / 6)
        rows, columns = encoded.split((height, width), 2)
        gate_w = block.conv_w(columns.permute(0, 1, 3, 2)).sigmoid()
        return x * gate_w * block.conv_h(rows).sigmoid()


class Reference(nn.Module):
    """A block or network by PyTorch's own operators."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The model's output."""
        with ops.reference_only():
            return self.model(x)


def peer(kind: str, name: str, block: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The composition called `kind` of the block, or None where there is none.

    "eager" is the authors' steps for CA; other blocks' code is their authors' steps already, so it
    is the block without its kernels. "compile" is CA's steps, or the block, compiled by size.
    """
    eager = AuthorsCA(block) if name == "ca" else Reference(block)
    if kind == "eager":
        return eager
    if kind == "compile":
        torch.compiler.reset()  # it gives up at the ninth size of a function, and runs it as it is
        return torch.compile(eager if name == "ca" else block, dynamic=False)
    if name not in _TIMM:
        return None
    from timm.layers import create_attn

    made = create_attn(_TIMM[name], block.channels)
    assert made is not None
    return made.train(block.training)
