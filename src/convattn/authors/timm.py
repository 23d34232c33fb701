"""huggingface/pytorch-image-models (timm): the attention layers of its create_attn.

All but six. "ge" cannot be constructed (timm 1.0.31). "splat", "lambda", "bottleneck", "halo" and
"bat" are of networks whose blocks are not here: ResNeSt, LambdaNetworks, BoTNet, HaloNet, BAT.
"""

from __future__ import annotations

import re

from torch import Tensor

from convattn.authors._source import Source, conv_shape
from convattn.blocks.ca import CA
from convattn.blocks.cbam import CBAM
from convattn.blocks.eca import ECA
from convattn.blocks.ela import ELA
from convattn.blocks.ese import ESE
from convattn.blocks.gc import GC
from convattn.blocks.non_local import NonLocal
from convattn.blocks.se import SE
from convattn.blocks.simple_ca import SimpleCA
from convattn.blocks.sk import SK
from convattn.blocks.strip import Strip
from convattn.core.errors import ArgumentError

__all__ = ["SE_MODULE", "SOURCES"]


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


def _eca(channels: int, gamma: float = 2, beta: float = 1, use_mlp: bool = False) -> ECA:
    return ECA(channels, gamma=gamma, b=beta, variant="timm_mlp" if use_mlp else "timm")


def _ceca(channels: int, gamma: float = 2, beta: float = 1) -> ECA:
    return ECA(channels, gamma=gamma, b=beta, circular=True, variant="timm")


def _cbam(channels: int, rd_ratio: float = 1 / 16, spatial_kernel_size: int = 7) -> CBAM:
    reduction = _reduction(rd_ratio)
    return CBAM(channels, reduction=reduction, kernel_size=spatial_kernel_size, variant="timm")


def _light_cbam(channels: int, rd_ratio: float = 1 / 16, spatial_kernel_size: int = 7) -> CBAM:
    return CBAM(
        channels,
        reduction=_reduction(rd_ratio),
        kernel_size=spatial_kernel_size,
        variant="timm_light",
    )


def _selective_kernel(
    in_channels: int,
    out_channels: int | None = None,
    stride: int = 1,
    groups: int = 1,
    rd_ratio: float = 1 / 16,
    rd_channels: int | None = None,
    split_input: bool = True,
) -> SK:
    out = out_channels or in_channels
    given = rd_channels is not None
    return SK(
        in_channels,
        out,
        stride,
        groups=min(out, groups),
        reduction=out if given else _reduction(rd_ratio),
        min_hidden=rd_channels,
        split=split_input,
        variant="authors" if given else "timm",
    )


def _ese(channels: int) -> ESE:
    return ESE(channels)


def _global_context(
    channels: int,
    use_attn: bool = True,
    fuse_add: bool = False,
    fuse_scale: bool = True,
    rd_ratio: float = 1 / 8,
    rd_channels: int | None = None,
) -> GC:
    if not (fuse_add or fuse_scale):
        raise ArgumentError("one of fuse_add and fuse_scale must be True, else nothing is fused")
    return GC(
        channels,
        reduction=_reduction(rd_ratio),
        hidden=rd_channels,
        pooling="att" if use_attn else "avg",
        fusion="_".join(("mul",) * fuse_scale + ("add",) * fuse_add),
        variant="timm",
    )


def _mlp_key(match: re.Match[str]) -> str:
    layer = {"0": "fc1", "1": "norm", "3": "fc2"}[match[2]]
    return f"mlp_{'scale' if match[1] == 'mul' else 'add'}.{layer}"


def _non_local(
    in_channels: int,
    use_scale: bool = True,
    rd_ratio: float = 1 / 8,
    rd_channels: int | None = None,
) -> NonLocal:
    reduction = _reduction(rd_ratio)
    return NonLocal(
        in_channels, reduction=reduction, hidden=rd_channels, scale=use_scale, variant="timm"
    )


def _non_local_order(keys: list[str]) -> list[str]:
    return sorted(keys, key=lambda key: "tpgzn".index(key[0]))


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
_CBAM_KEYS = (
    (r"(fc\d)", r"channel.\1"),
    (r"(conv|bn)\.", r"spatial.conv.\1."),
)

SE_MODULE = Source((f"{_LAYERS}/squeeze_excite.py:SEModule",), _se, shape=conv_shape)

SOURCES = (
    Source((f"{_COORD}:CoordAttn",), _coord),
    Source((f"{_COORD}:SimpleCoordAttn",), _simple_coord),
    Source(
        (f"{_COORD}:EfficientLocalAttn",), _efficient_local, keys=_STRIP_KEYS, shape=_strip_shape
    ),
    Source((f"{_COORD}:StripAttn",), _strip, keys=_STRIP_KEYS, shape=_strip_shape),
    SE_MODULE,
    Source((f"{_LAYERS}/squeeze_excite.py:EffectiveSEModule",), _ese, shape=conv_shape),
    Source((f"{_LAYERS}/eca.py:EcaModule",), _eca),
    Source((f"{_LAYERS}/eca.py:CecaModule",), _ceca),
    Source(
        (f"{_LAYERS}/global_context.py:GlobalContext",),
        _global_context,
        keys=(
            (r"mask", "conv_attn"),
            (r"(add|mul)\.(\d)", _mlp_key),
        ),
        shape=conv_shape,
    ),
    Source(
        (f"{_LAYERS}/non_local_attn.py:NonLocalAttn",),
        _non_local,
        keys=((r"theta", "t"), (r"phi", "p"), (r"out\.0", "z"), (r"out\.1", "norm")),
        order=_non_local_order,
    ),
    Source((f"{_LAYERS}/cbam.py:CbamModule",), _cbam, keys=_CBAM_KEYS, shape=conv_shape),
    Source((f"{_LAYERS}/cbam.py:LightCbamModule",), _light_cbam, keys=_CBAM_KEYS, shape=conv_shape),
    Source(
        (f"{_LAYERS}/selective_kernel.py:SelectiveKernel",),
        _selective_kernel,
        keys=(
            (r"branches\.(\d+)\.0", r"paths.\1.conv"),
            (r"branches\.(\d+)\.1", r"paths.\1.bn"),
            (r"fc1", "attn.fc_reduce"),
            (r"bn\.", "attn.bn."),
            (r"fc2", "attn.fc_select"),
        ),
        shape=conv_shape,
    ),
)
