"""Our networks in timm's registry; importing this module registers them.

`timm.create_model("convattn_mobilenet_v2_ca", num_classes=10)`: "convattn_", a network of
`list_models`, and after another "_" a block of `list_blocks`. timm's own names have no "/".
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convattn.blocks import list_blocks
from convattn.core.errors import ArgumentError
from convattn.core.names import require
from convattn.models import create_model, list_models, model_builder

__all__ = ["Maps"]

_registry = require("timm.models", "timm")
_features = require("timm.models._features", "timm")
_data = require("timm.data", "timm")


class Maps(nn.Module):
    """A network's maps of the sizes that timm's caller chose.

    Args:
        network: made with `features_only`.
        out_indices: numbers of the maps, from 0; all if None.
        in_chans: channels of the image.

    Attributes:
        feature_info: timm's: channels, reductions and names of the maps.
    """

    def __init__(
        self, network: nn.Module, out_indices: Sequence[int] | None, in_chans: int
    ) -> None:
        super().__init__()
        self.network = network
        side = 224
        with torch.device("meta"), torch.no_grad():
            probe = create_model(**network.origin).eval()  # type: ignore[arg-type]
            maps = probe(torch.zeros(1, in_chans, side, side))
        count = len(maps)
        chosen = range(count) if out_indices is None else out_indices
        if not all(-count <= index < count for index in chosen):
            raise ArgumentError(f"out_indices must be in 0..{count - 1}, got {tuple(chosen)}")
        self.indices = [index % count for index in chosen]
        info = [
            {"num_chs": m.shape[1], "reduction": side // m.shape[2], "module": f"maps.{i}"}
            for i, m in enumerate(maps)
        ]
        self.feature_info = _features.FeatureInfo(info, self.indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_chans, H, W) -> the chosen maps."""
        maps = self.network(x)
        return [maps[index] for index in self.indices]


def _entry_point(model: str, attention: str) -> Callable[..., nn.Module]:
    accepted = inspect.signature(model_builder(model)).parameters
    side = 32 if "stem" in accepted and accepted["stem"].default == "cifar" else 224

    def build(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        features_only: bool = False,
        out_indices: Sequence[int] | None = None,
        **arguments: Any,
    ) -> nn.Module:
        if pretrained:
            raise ArgumentError(
                f"{name} has no pretrained weights to download; give checkpoint_path=..., or load "
                "its authors' with convattn.load_authors"
            )
        arguments |= {"in_channels": in_chans}
        if "dropout" in accepted:
            arguments["dropout"] = drop_rate
        elif drop_rate:
            raise ArgumentError(f"{name} has no dropout, got drop_rate={drop_rate}")
        if features_only:
            maps = create_model(model, attention=attention, features_only=True, **arguments)
            return Maps(maps, out_indices, in_chans)
        network: Any = create_model(
            model, attention=attention, num_classes=num_classes, **arguments
        )
        network.num_classes = num_classes
        network.pretrained_cfg = network.default_cfg = {
            "architecture": name,
            "url": "",
            "num_classes": num_classes,
            "input_size": (in_chans, side, side),
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": _data.IMAGENET_DEFAULT_MEAN,
            "std": _data.IMAGENET_DEFAULT_STD,
            "first_conv": "conv1" if hasattr(network, "conv1") else "stem.conv",
            "classifier": "fc" if hasattr(network, "fc") else "classifier",
        }
        return network

    name = f"convattn_{model}" + ("" if attention == "none" else f"_{attention}")
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{model} of convattn" + ("." if attention == "none" else f" with {attention}.")
    return build


def _register() -> None:
    for model in list_models():
        if "features_only" not in inspect.signature(model_builder(model)).parameters:
            continue  # a detector's backbone
        for attention in list_blocks():
            build = _entry_point(model, attention)
            globals()[build.__name__] = _registry.register_model(build)


_register()
