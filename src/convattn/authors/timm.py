"""huggingface/pytorch-image-models (timm): the attention layers of its create_attn."""

from __future__ import annotations

from torch import Tensor

from convattn.authors._source import Source, conv_shape
from convattn.blocks.ca import CA
from convattn.blocks.cbam import CBAM
from convattn.blocks.eca import ECA
from convattn.blocks.ela import ELA
from convattn.blocks.se import SE
from convattn.blocks.simple_ca import SimpleCA
from convattn.blocks.strip import Strip
from convattn.core.errors import ArgumentError

__all__ = ["SOURCES"]


def _coord(channels: int, rd_channels: int | None = None, bias: bool = False) -> CA:
    if rd_channels is None:
        return CA(channels, bias=bias, variant="timm")
    return CA(channels, reduction=channels, min_hidden=rd_channels, bias=bias)


def _simple_coord(channels: int, bias: bool = True) -> SimpleCA:
    return SimpleCA(channels, bias=bias)


def _efficient_local(channels: int, kernel_size: int = 7) -> ELA:
    return ELA(channels, kernel_size=kernel_size, variant="timm")


def _strip(channels: int, use_conv: bool = True, kernel_size: int = 3, bias: bool = False) -> Strip:
    return Strip(channels, conv=use_conv, kernel_size=kernel_size, bias=bias)


def _se(channels: int, rd_ratio: float = 1 / 16, bias: bool = True) -> SE:
    return SE(channels, reduction=_reduction(rd_ratio), bias=bias, variant="timm")


def _eca(channels: int, gamma: float = 2, beta: float = 1) -> ECA:
    return ECA(channels, gamma=gamma, b=beta, variant="timm")


def _cbam(channels: int, rd_ratio: float = 1 / 16, spatial_kernel_size: int = 7) -> CBAM:
    reduction = _reduction(rd_ratio)
    return CBAM(channels, reduction=reduction, kernel_size=spatial_kernel_size, variant="timm")


def _reduction(ratio: float) -> int:
    if not 0 < ratio <= 1 or abs(1 / ratio - round(1 / ratio)) > 1e-6:
        raise ArgumentError(f"rd_ratio must be 1 / n with a whole n, got {ratio!r}")
    return round(1 / ratio)


def _strip_shape(key: str, tensor: Tensor) -> Tensor:
    """Our 1-D kernels (C, 1, k) as their column (C, 1, k, 1) and row (C, 1, 1, k)."""
    if tensor.dim() != 3:
        return tensor
    return tensor.unsqueeze(3) if key.startswith("convs.0") else tensor.unsqueeze(2)


_COORD = "huggingface/pytorch-image-models:timm/layers/coord_attn.py"
_LAYERS = "huggingface/pytorch-image-models:timm/layers"
_STRIP_KEYS = (
    (r"convs\.0", "conv_h"),
    (r"convs\.1", "conv_w"),
    (r"norms\.0", "norm_h"),
    (r"norms\.1", "norm_w"),
)

SOURCES = (
    Source((f"{_COORD}:CoordAttn",), _coord),
    Source((f"{_COORD}:SimpleCoordAttn",), _simple_coord),
    Source(
        (f"{_COORD}:EfficientLocalAttn",), _efficient_local, keys=_STRIP_KEYS, shape=_strip_shape
    ),
    Source((f"{_COORD}:StripAttn",), _strip, keys=_STRIP_KEYS, shape=_strip_shape),
    Source((f"{_LAYERS}/squeeze_excite.py:SEModule",), _se, shape=conv_shape),
    Source((f"{_LAYERS}/eca.py:EcaModule",), _eca),
    Source(
        (f"{_LAYERS}/cbam.py:CbamModule",),
        _cbam,
        keys=(
            (r"(fc\d)", r"channel.\1"),
            (r"(conv|bn)\.", r"spatial.conv.\1."),
        ),
        shape=conv_shape,
    ),
)
