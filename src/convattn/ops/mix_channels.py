"""Mix the channels of pooled values."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mix_channels"]


def mix_channels(z: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution written as a matrix product.

    Compiled for training, the product serves all sizes with one compilation; 1x1 convolutions on
    pooled values are compiled anew for each size.

    Args:
        z: (N, C, L): C channels at L positions.
        weight: (M, C) or a 1x1 convolution's (M, C, 1, ...).
        bias: (M,) or None.

    Returns:
        (N, M, L).
    """
    mixed = torch.matmul(weight.flatten(1), z)
    return mixed if bias is None else mixed + bias.to(mixed.dtype).unsqueeze(1)
