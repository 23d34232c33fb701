"""huggingface/pytorch-image-models (timm): the plain networks, and ResNets with its SE."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from convattn.authors._resnet import DEPTHS, in_blocks
from convattn.authors._source import Source
from convattn.authors.timm import SE_MODULE
from convattn.models import create_model
from convattn.models.efficientnet import STAGES as EFFICIENTNET
from convattn.models.mobilenet_v2 import STAGES as MOBILENET_V2
from convattn.models.mobilenet_v3 import LARGE, SMALL

__all__ = ["SOURCES"]

Keys = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_STEM: Keys = ((r"stem\.conv", "conv_stem"), (r"stem\.norm", "bn1"))
_HEAD: Keys = ((r"head\.conv", "conv_head"), (r"head\.norm", "bn2"))


def _builder(name: str, **fixed: Any) -> Callable[..., nn.Module]:
    """Takes timm's `num_classes`, `in_chans` and `drop_rate`; our ResNets have no dropout."""

    def build(num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0) -> nn.Module:
        dropout: Any = {} if name.startswith("resnet") else {"dropout": drop_rate}
        return create_model(name, num_classes=num_classes, in_channels=in_chans, **dropout, **fixed)

    return build


def _block_keys(repeats: Iterable[int]) -> Keys:
    """Names of inverted bottlenecks; the first block has no expansion and counts from there.

    Args:
        repeats: blocks of each of timm's stages.
    """
    paths = [f"blocks.{stage}.{i}" for stage, n in enumerate(repeats) for i in range(n)]
    convs = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
    norms = {"expand": 1, "depthwise": 2, "project": 3}

    def key(match: re.Match[str]) -> str:
        k, part, layer = int(match[1]), match[2], match[3]
        if layer == "norm":
            return f"{paths[k]}.bn{norms[part] - (k == 0)}"
        return f"{paths[k]}.{'conv_pw' if k == 0 and part == 'project' else convs[part]}"

    def squeeze(match: re.Match[str]) -> str:
        return f"{paths[int(match[1])]}.se.conv_{'reduce' if match[2] == '1' else 'expand'}"

    return (
        *_STEM,
        (r"blocks\.(\d+)\.se\.fc([12])", squeeze),
        (r"blocks\.(\d+)\.(\w+)\.(conv|norm)", key),
    )


def _hidden_conv(key: str, tensor: Tensor) -> Tensor:
    """MobileNetV3's hidden layer of the classifier as a 1x1 convolution."""
    return tensor[:, :, None, None] if key == "hidden.weight" else tensor


def _mobilenet_v3(size: str, percent: int) -> Source:
    outputs = [row[2] for row in (LARGE if size == "large" else SMALL)]
    repeats = [len(list(same)) for _, same in groupby(outputs)]
    last = f"blocks.{len(repeats)}.0"
    return Source(
        (f"{_MODELS}/mobilenetv3.py:mobilenetv3_{size}_{percent:03}",),
        _builder(f"mobilenet_v3_{size}", variant="timm", width_mult=percent / 100),
        keys=(
            *_block_keys(repeats),
            (r"head\.conv", f"{last}.conv"),
            (r"head\.norm", f"{last}.bn1"),
            (r"hidden", "conv_head"),
        ),
        shape=_hidden_conv,
    )


_MODELS = "huggingface/pytorch-image-models:timm/models"

SOURCES = (
    *(Source((f"{_MODELS}/resnet.py:resnet{d}",), _builder(f"resnet{d}")) for d in DEPTHS),
    *(
        Source(
            (f"{_MODELS}/resnet.py:seresnet{d}",),
            _builder(f"resnet{d}", attention="se", attention_args={"variant": "timm"}),
            blocks=in_blocks("se", SE_MODULE),
        )
        for d in DEPTHS
    ),
    *(
        Source(
            (f"{_MODELS}/efficientnet.py:mobilenetv2_{percent:03}",),
            _builder("mobilenet_v2", width_mult=percent / 100),
            keys=(*_block_keys(n for *_, n in MOBILENET_V2), *_HEAD),
        )
        for percent in (35, 50, 75, 100, 140)
    ),
    Source(
        (f"{_MODELS}/efficientnet.py:efficientnet_b0",),
        _builder("efficientnet_b0", stochastic_depth=0.0),
        keys=(*_block_keys(n for *_, n in EFFICIENTNET), *_HEAD),
    ),
    *(_mobilenet_v3("large", percent) for percent in (75, 100)),
    *(_mobilenet_v3("small", percent) for percent in (50, 75, 100)),
)
