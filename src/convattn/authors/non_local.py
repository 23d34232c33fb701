"""AlexHex7/Non-local_pytorch and mmcv: the Non-local block; its authors' code is Caffe2."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from convattn.authors._source import Source
from convattn.blocks.non_local import NonLocal
from convattn.core.errors import ArgumentError

__all__ = ["SOURCES"]


def _alexhex7(
    mode: str,
    in_channels: int,
    inter_channels: int | None = None,
    sub_sample: bool = True,
    bn_layer: bool = True,
) -> NonLocal:
    return NonLocal(
        in_channels,
        mode=mode,
        hidden=max(1, in_channels // 2) if inter_channels is None else inter_channels,
        scale=False,
        subsample="embedding" if sub_sample else "none",
        norm=bn_layer,
    )


def _mmcv(
    in_channels: int,
    sub_sample: bool = False,
    reduction: int = 2,
    use_scale: bool = True,
    norm_cfg: dict[str, Any] | None = None,
    mode: str = "embedded_gaussian",
) -> NonLocal:
    if norm_cfg not in (None, {"type": "BN"}):
        raise ArgumentError(f"norm_cfg must be None or {{'type': 'BN'}}, got {norm_cfg!r}")
    return NonLocal(
        in_channels,
        mode=mode,
        reduction=reduction,
        scale=use_scale,
        subsample="embedding" if sub_sample else "none",
        norm=norm_cfg is not None,
        out_bias=norm_cfg is None,
    )


def _shape(key: str, tensor: Tensor) -> Tensor:
    return tensor[..., None, None] if key == "relation.weight" else tensor


_MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")

SOURCES = (
    *(
        Source(
            (f"AlexHex7/Non-local_pytorch:lib/non_local_{mode}.py:NONLocalBlock2D",),
            partial(_alexhex7, mode),
            keys=((r"out\.", "W."), (r"relation", "concat_project.0")),
            shape=_shape,
        )
        for mode in _MODES
    ),
    Source(
        ("open-mmlab/mmcv:mmcv/cnn/bricks/non_local.py:NonLocal2d",),
        _mmcv,
        keys=(
            (r"(g|phi)\.0\.", r"\1.0.conv."),
            (r"(g|theta|phi)\.", r"\1.conv."),
            (r"out\.1\.", "conv_out.bn."),
            (r"out\.(0\.)?", "conv_out.conv."),
            (r"relation", "concat_project.conv"),
        ),
        shape=_shape,
    ),
)
