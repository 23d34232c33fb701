"""Maps of a backbone as torchvision's detectors and segmenters want them."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from convattn.core.errors import ArgumentError
from convattn.core.names import require

__all__ = ["Maps", "Pyramid", "freeze_norms", "freeze_stages", "hold_norms", "measure"]

_SIDE = 128  # of the image that a backbone is measured with


def measure(host: nn.Module) -> tuple[list[int], list[int]]:
    """Channels and strides of the maps that a backbone returns.

    Raises:
        ArgumentError: it returns no list of maps.
    """
    training = host.training
    with torch.no_grad():
        maps = host.eval()(torch.zeros(1, 3, _SIDE, _SIDE))
    host.train(training)
    if isinstance(maps, Tensor) or not all(m.dim() == 4 for m in maps):
        raise ArgumentError(
            f"{type(host).__name__} returns no list of maps; a backbone of a detector or "
            "segmenter is built with features_only=True"
        )
    return [m.shape[1] for m in maps], [_SIDE // m.shape[2] for m in maps]


class Maps(nn.Module):
    """Some of a backbone's maps, under names.

    Args:
        host: returns a list of maps.
        chosen: name -> number in the list.

    Attributes:
        out_channels: of each chosen map.
    """

    def __init__(self, host: nn.Module, chosen: dict[str, int]) -> None:
        super().__init__()
        self.host = host
        self.chosen = chosen
        channels, _ = measure(host)
        self.out_channels = [channels[i] for i in chosen.values()]

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """(N, 3, H, W) -> maps by name."""
        maps = self.host(x)
        return OrderedDict((name, maps[i]) for name, i in self.chosen.items())


class Pyramid(nn.Module):
    """A backbone under torchvision's feature pyramid network.

    Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017.

    Args:
        host: returns a list of maps.
        first: stride of the largest map that is used, 4 or 8; up from 32 all lie above.
        top: "pool" (one more level by subsampling, for R-CNNs); "p5" or "c5" (two more by
            convolutions on the last level or on the last map, for RetinaNet).
        out_channels: of every level.
    """

    def __init__(self, host: nn.Module, first: int, top: str, out_channels: int = 256) -> None:
        super().__init__()
        pyramids = require("torchvision.ops.feature_pyramid_network", "train")
        channels, strides = measure(host)
        last = {stride: i for i, stride in enumerate(strides)}  # several maps of a stride: the last
        wanted = [s for s in (4, 8, 16, 32) if s >= first]
        if not all(stride in last for stride in wanted):
            raise ArgumentError(
                f"{type(host).__name__} has maps of strides {strides}; a pyramid needs {wanted}"
            )
        self.body = Maps(host, {str(stride): last[stride] for stride in wanted})
        widths = [channels[last[stride]] for stride in wanted]
        if top == "pool":
            extra = pyramids.LastLevelMaxPool()
        else:
            extra = pyramids.LastLevelP6P7(
                out_channels if top == "p5" else widths[-1], out_channels
            )
        self.fpn = pyramids.FeaturePyramidNetwork(widths, out_channels, extra)
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """(N, 3, H, W) -> levels by name."""
        return self.fpn(self.body(x))


def freeze_norms(module: nn.Module) -> None:
    """Turn each batch norm into a fixed scale and shift: its statistics and weights stay.

    The usual choice for detectors with pretrained backbones, whose batches are small.
    """
    frozen = require("torchvision.ops", "train").FrozenBatchNorm2d
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                new = frozen(child.num_features, child.eps).to(child.weight.device)
                state = child.state_dict()
                state.pop("num_batches_tracked")
                new.load_state_dict(state)
                setattr(parent, name, new)


class _HeldNorm(nn.BatchNorm2d):
    """Batch norm that stays in eval mode."""

    def train(self, mode: bool = True) -> _HeldNorm:
        """Eval, whatever is asked for."""
        return super().train(False)


def hold_norms(module: nn.Module) -> None:
    """Keep each batch norm in eval mode: its statistics stay, scale and shift are trained."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = _HeldNorm
            child.eval()


def freeze_stages(host: nn.Module, count: int) -> None:
    """Switch off training of what a backbone's first `count` maps from stride 4 on depend on.

    One is stem and first stage, as detection papers freeze them.
    """
    if count == 0:
        return
    _, strides = measure(host)
    usable = [i for i, stride in enumerate(strides) if stride >= 4]
    if not 0 < count <= len(usable):
        raise ArgumentError(
            f"frozen_stages must be 0 to {len(usable)} for {type(host).__name__}, got {count}"
        )
    training = host.training
    with torch.enable_grad():
        reached = host.eval()(torch.zeros(1, 3, _SIDE, _SIDE))[usable[count - 1]]
        trained = [p for p in host.parameters() if p.requires_grad]
        found = torch.autograd.grad(reached.sum(), trained, allow_unused=True)
    host.train(training)
    for parameter, gradient in zip(trained, found, strict=True):
        if gradient is not None:
            parameter.requires_grad_(False)
