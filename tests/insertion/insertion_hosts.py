"""Networks of other people to put blocks into, without pretrained weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """What a user writes: a residual block with its layers in the open, then a shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(True))
        self.shared = nn.Conv2d(8, 8, 3, 1, 1)
        self.act = nn.ReLU()
        self.merge = nn.Conv2d(16, 24, 1)
        self.head = nn.Linear(24, 5)
        self.unused = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.shared(self.act(self.shared(x)))
        y = self.merge(torch.cat((x, y), 1))
        return self.head(self.act(y).mean((2, 3)))


def _sequential() -> nn.Module:
    def layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    body = [layer(3, 16, 2), layer(16, 16, 1), layer(16, 16, 1), layer(16, 32, 2), layer(32, 32, 1)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7))


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        model: nn.Module = torchvision.models.get_model(name, weights=None)
        return model

    return build


def _timm(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        model: nn.Module = timm.create_model(name)
        return model

    return build


def _ours(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from convattn import create_model

        return create_model(name, **arguments)

    return build


HOSTS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": _torchvision("resnet18"),
    "resnet50": _torchvision("resnet50"),
    "mobilenet_v2": _torchvision("mobilenet_v2"),
    "mobilenet_v3_large": _torchvision("mobilenet_v3_large"),
    "efficientnet_b0": _torchvision("efficientnet_b0"),
    "shufflenet_v2": _torchvision("shufflenet_v2_x0_5"),
    "regnet_y_400mf": _torchvision("regnet_y_400mf"),
    "densenet121": _torchvision("densenet121"),
    "convnext_tiny": _torchvision("convnext_tiny"),
    "timm/resnet18": _timm("resnet18"),
    "timm/mobilenetv2": _timm("mobilenetv2_100"),
    "timm/efficientnet_b0": _timm("efficientnet_b0"),
    "timm/regnety_002": _timm("regnety_002"),
    "timm/convnext_atto": _timm("convnext_atto"),
    "ours/mobilenet_v2": _ours("mobilenet_v2"),
    "plain": Plain,
    "sequential": _sequential,
}


def build(name: str) -> nn.Module:
    """A host in eval mode, its batch norms as after training; timm starts some at zero."""
    torch.manual_seed(0)
    host = HOSTS[name]().eval()
    for module in host.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return host
