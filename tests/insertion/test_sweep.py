"""Which positions architectures of timm have, and networks that are built on a backbone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from convattn import find, insert, plan, remove
from convattn.insertion import positions

NAMES = (
    *("after_expand", "after_depthwise", "before_project"),
    *("before_add", "after_add", "stage_end"),
)
# Places of each position above; 0 where the architecture has no such thing: no depthwise
# convolution, no shortcut (LCNet, VGG, DenseNet, Inception, VoVNet), or one that no module of its
# own delivers (Res2Net's branch ends in a concatenation inside its forward). RexNet adds its
# shortcut to a part of the channels. A blur is no depthwise convolution: its weight is fixed.
TABLE = {
    "resnet18": (0, 0, 0, 8, 8, 4),
    "resnet50": (0, 0, 0, 16, 16, 4),
    "seresnet50": (0, 0, 0, 16, 16, 4),
    "resnext50_32x4d": (0, 0, 0, 16, 16, 4),
    "res2net50_26w_4s": (0, 0, 0, 16, 16, 4),  # sums inside the branch are no shortcuts
    "resnest14d": (0, 0, 0, 4, 4, 4),
    "resnetv2_50": (0, 0, 0, 16, 16, 4),
    "skresnet18": (0, 0, 0, 8, 8, 4),
    "mobilenetv2_100": (16, 16, 16, 16, 16, 5),
    "mobilenetv3_large_100": (14, 14, 14, 15, 15, 5),
    "mobilenetv4_conv_small": (11, 11, 11, 12, 12, 4),
    "efficientnet_b0": (15, 15, 15, 15, 15, 5),
    "tf_efficientnetv2_b0": (14, 14, 14, 20, 20, 4),
    "mnasnet_100": (16, 16, 16, 16, 16, 5),
    "mixnet_s": (0, 43, 0, 16, 16, 5),
    "fbnetc_100": (18, 18, 18, 21, 21, 5),
    "ghostnet_100": (0, 41, 0, 16, 16, 5),
    "lcnet_050": (0, 13, 0, 0, 0, 5),
    "tinynet_e": (9, 9, 9, 9, 9, 5),
    "rexnet_100": (15, 15, 15, 0, 0, 5),
    "regnetx_002": (0, 0, 0, 13, 13, 4),
    "regnety_002": (0, 0, 0, 13, 13, 4),
    "repvgg_a0": (0, 0, 0, 22, 22, 4),
    "vgg11_bn": (0, 0, 0, 0, 0, 3),
    "densenet121": (0, 0, 0, 0, 0, 4),
    "dla34": (0, 0, 0, 12, 12, 5),
    "dpn68": (0, 0, 0, 0, 0, 4),
    "darknet53": (0, 0, 0, 23, 23, 5),
    "cspresnet50": (0, 0, 0, 13, 13, 4),
    "vovnet39a": (0, 0, 0, 0, 0, 4),
    "ese_vovnet19b_dw": (0, 14, 0, 0, 0, 5),
    "inception_v3": (0, 0, 0, 0, 0, 4),
    "xception41": (0, 39, 0, 13, 13, 4),
    "nfnet_l0": (0, 0, 0, 12, 12, 4),
    "convnext_atto": (0, 12, 0, 12, 12, 4),
    "convnextv2_atto": (0, 12, 0, 12, 12, 4),
    "inception_next_tiny": (0, 54, 0, 18, 18, 4),  # 3x3, 1x11 and 11x1 in each of 18 blocks
    "starnet_s1": (0, 30, 0, 15, 15, 4),
    "poolformer_s12": (0, 0, 0, 12, 12, 4),
    "hgnet_tiny": (0, 3, 0, 5, 5, 4),
    "selecsls42": (0, 0, 0, 0, 0, 2),
    "tresnet_m": (0, 0, 0, 21, 21, 4),
    "resnetblur18": (0, 0, 0, 8, 8, 4),
    "mobilenetv1_100": (0, 13, 0, 0, 0, 5),
    "hrnet_w18_small": (0, 0, 0, 23, 23, 0),  # one activation ends stages of three widths
    "efficientvit_b0": (10, 10, 10, 15, 15, 4),
    "convmixer_768_32": (0, 32, 0, 32, 32, 1),
    "gernet_s": (3, 3, 3, 14, 14, 4),
    "edgenext_xx_small": (0, 15, 0, 0, 12, 4),
}


@pytest.mark.parametrize("name", TABLE)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # timm's own, while it builds
        model = timm.create_model(name)
    have = positions(model)
    assert tuple(have.get(position, 0) for position in NAMES) == TABLE[name]
    if name in ("regnety_002", "xception41", "poolformer_s12", "dla34", "darknet53"):
        assert len(plan(model, "eca", at="stage_end")) == have["stage_end"]


def _torchvision(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import get_model

        torch.manual_seed(0)
        return get_model(name, weights=None, weights_backbone=None, num_classes=4, **arguments)

    return build


SMALL = {"min_size": 64, "max_size": 96}


def leaves(tree: Any) -> list[torch.Tensor]:
    return torch.utils._pytree.tree_leaves(tree)


@pytest.mark.parametrize(
    ("build", "block", "at", "count"),
    [
        (
            _torchvision("fasterrcnn_mobilenet_v3_large_320_fpn", **SMALL),
            "ca",
            "after_depthwise",
            14,
        ),
        # pyramids add an enlarged map at all levels but the smallest
        (_torchvision("fasterrcnn_resnet50_fpn", **SMALL), "eca", "after_merge", 3),
        (_torchvision("maskrcnn_resnet50_fpn", **SMALL), "ca", "before_add", 16),
        (_torchvision("retinanet_resnet50_fpn", **SMALL), "gc", "after_merge", 2),
        # of the 15 blocks one is cut in two: its expanded map goes to a head
        (_torchvision("ssdlite320_mobilenet_v3_large"), "se", "before_add", 14),
        (_torchvision("deeplabv3_resnet50"), "se", "before_add", 16),
        (_torchvision("deeplabv3_mobilenet_v3_large"), "ca", "after_merge", 1),
        (_torchvision("lraspp_mobilenet_v3_large"), "eca", "before_add", 15),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_networks_built_on_a_backbone(
    build: Callable[[], nn.Module], block: str, at: str, count: int
) -> None:
    pytest.importorskip("torchvision")
    model = build().eval()
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = leaves(model(x))
        insert(model, block, at=at, input_size=(1, 3, 64, 96))
        assert len(find(model)) == count
        found = leaves(model(x))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        remove(model)
        assert all(torch.equal(a, b) for a, b in zip(leaves(model(x)), expected, strict=True))
