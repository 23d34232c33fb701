"""The authors' SSDLite: what its heads say, against plain functions of the authors' state dict."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from authors_functional import State, conv, linear, norm
from torch import Tensor

from convattn import authors
from convattn.core.errors import ArgumentError

SOURCE = "houqb/ssdlite-pytorch-mobilenext:ssd/modeling/box_head/box_predictor.py:SSDDetector"


def layer(s: State, p: str, n: str, x: Tensor, stride: int = 1, wide: bool = False) -> Tensor:
    """Convolution `p` and norm `n`; depthwise if `wide`."""
    return norm(s, n, conv(s, p, x, stride, x.shape[1] if wide else 1))


def nested(s: State, p: str, x: Tensor, stride: int) -> Tensor:
    y = F.relu6(layer(s, f"{p}.conv.0.0", f"{p}.conv.0.1", x))
    y = F.relu6(layer(s, f"{p}.conv.1.0", f"{p}.conv.1.1", y, stride, wide=True))
    return layer(s, f"{p}.conv.2", f"{p}.conv.3", y)


def flat(s: State, p: str, x: Tensor, stride: int) -> Tensor:
    y = F.relu6(layer(s, f"{p}.conv.0", f"{p}.conv.1", x))
    y = F.relu6(layer(s, f"{p}.conv.3", f"{p}.conv.4", y, stride, wide=True))
    v = linear(s, f"{p}.conv.6.conv.2", F.relu6(linear(s, f"{p}.conv.6.conv.0", y.mean((2, 3)))))
    return layer(s, f"{p}.conv.7", f"{p}.conv.8", y * torch.sigmoid(v)[..., None, None])


def mobilenet_v2(s: State, x: Tensor, attention: bool) -> list[Tensor]:
    block, b = (flat, "backbone.features") if attention else (nested, "backbone.features")
    x = F.relu6(layer(s, f"{b}.0.0", f"{b}.0.1", x, 2))
    first = ("0", "1", "3", "4") if attention else ("0.0", "0.1", "1", "2")
    p = [f"{b}.1.conv.{i}" for i in first]
    x = layer(s, p[2], p[3], F.relu6(layer(s, p[0], p[1], x, wide=True)))
    maps = []
    for k in range(2, 18):
        y = block(s, f"{b}.{k}", x, 2 if k in (2, 4, 7, 14) else 1)
        x = x + y if x.shape == y.shape else y
        if k == 13:
            maps.append(x)
    last = "backbone.conv" if attention else f"{b}.18"
    maps.append(F.relu6(layer(s, f"{last}.0", f"{last}.1", x)))
    for i in range(4):
        maps.append(block(s, f"backbone.extras.{i}", maps[-1], 2))
    return maps


def mobilenext(s: State, x: Tensor) -> list[Tensor]:
    b, maps = "backbone.features", []
    x = F.relu6(layer(s, f"{b}.0.0", f"{b}.0.1", x, 2))
    for k in range(1, 21):

        def at(i: int, y: Tensor, stride: int = 1, k: int = k) -> Tensor:
            p = f"{b}.{k}.conv"
            groups = y.shape[1] if s[f"{p}.{i}.weight"].shape[1] == 1 else 1
            return norm(s, f"{p}.{i + 1}", conv(s, f"{p}.{i}", y, stride, groups))

        whole = s[f"{b}.{k}.conv.0.weight"].shape[1] == 1
        y = at(5, at(3, F.relu6(at(0, x)))) if whole else at(2, at(0, x))
        y = F.relu6(y)
        if k in (13, 20):
            maps.append(y)
        last = 8 if whole else 5
        if f"{b}.{k}.conv.{last}.weight" in s:
            y = at(last, y, 2 if k in (1, 3, 6, 13) else 1)
        x = x + y if x.shape == y.shape else y
    for i in range(4):
        p = f"backbone.extras.{i}"
        x = F.relu6(layer(s, f"{p}.0", f"{p}.1", x, 2, wide=True))
        x = F.relu6(layer(s, f"{p}.5", f"{p}.6", layer(s, f"{p}.3", f"{p}.4", x)))
        maps.append(x)
    return maps


def predictions(s: State, maps: list[Tensor], kind: str, values: int) -> Tensor:
    found = []
    for i, y in enumerate(maps):
        p = f"box_head.predictor.{kind}_headers.{i}"
        if i < 5:
            y = F.relu6(layer(s, f"{p}.conv.0", f"{p}.conv.1", y, wide=True))
            p += ".conv.3"
        y = conv(s, p, y)
        for row in y.flatten(2).unbind(2):  # a position's values, its anchors one after the other
            found.append(row.reshape(len(row), -1, values))
    return torch.cat(found, 1)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "se_mbv2", "mobilenext"])
def test_equals_a_plain_function(backbone: str) -> None:
    boxes = [6, 6, 6, 6, 6, 4]
    arguments: dict[str, Any] = {"num_classes": 5, "boxes_per_location": boxes}
    net = authors.create(SOURCE, backbone=backbone, **arguments).double().eval()
    state = {}
    for key, value in authors.to_authors(net, source=SOURCE).items():
        noise = torch.randn(value.shape, dtype=torch.float64)
        last = key.rpartition(".")[2]
        if not value.is_floating_point():
            state[key] = value
        elif last == "running_var":
            state[key] = 1 + 0.1 * noise.abs()
        elif last == "weight" and value.dim() >= 2:
            state[key] = 1.5 * noise / value[0].numel() ** 0.5
        else:
            state[key] = (last == "weight") + 0.1 * noise
    authors.load_authors(net, state, source=SOURCE)
    x = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    with torch.no_grad():
        heads = net.head(list(net.backbone(x).values()))
        ours = heads["cls_logits"], heads["bbox_regression"]
        maps = (
            mobilenext(state, x)
            if backbone == "mobilenext"
            else mobilenet_v2(state, x, backbone == "se_mbv2")
        )
        expected = predictions(state, maps, "cls", 5), predictions(state, maps, "reg", 4)
    anchors = sum(b * m.shape[2] * m.shape[3] for b, m in zip(boxes, maps, strict=True))
    for one, other, values in zip(ours, expected, (5, 4), strict=True):
        assert one.shape == other.shape == (2, anchors, values)
        assert (one - other).abs().max() <= 1e-9 * other.std()
        assert not torch.allclose(one[0], one[1])


def test_the_published_size_of_mobilenext_for_coco() -> None:
    """Reference 4.4: 4,539,418 parameters; MobileNetV2's are in the lists of keys."""
    net = authors.create(
        SOURCE, backbone="mobilenext", num_classes=81, boxes_per_location=[6, 6, 6, 6, 6, 4]
    )
    assert sum(p.numel() for p in net.parameters()) == 4_539_418


@pytest.mark.parametrize("arguments", [{"backbone": "vgg"}, {"boxes_per_location": [6, 6]}])
def test_wrong_arguments_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        authors.create(SOURCE, **arguments)
