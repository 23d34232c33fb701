"""EfficientNet-B0 and MobileNetV3: torchvision's networks and weights, their own SE replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convattn import authors, create_model
from convattn.core.errors import ArgumentError
from convattn.insertion.slots import slot_positions

FILES = {
    "efficientnet_b0": "efficientnet.py",
    "mobilenet_v3_large": "mobilenetv3.py",
    "mobilenet_v3_small": "mobilenetv3.py",
}


@pytest.mark.parametrize("name", FILES)
def test_equals_torchvision(name: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    theirs = getattr(torchvision.models, name)(num_classes=7).eval()
    source = f"pytorch/vision:torchvision/models/{FILES[name]}:{name}"
    net = authors.create(source, num_classes=7).eval()
    authors.load_authors(net, theirs.state_dict(), source=source)
    assert list(authors.to_authors(net, source=source)) == list(theirs.state_dict())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs(x), rtol=0, atol=1e-5)
    norms = [[m for m in n.modules() if isinstance(m, torch.nn.BatchNorm2d)] for n in (net, theirs)]
    assert [(m.eps, m.momentum) for m in norms[0]] == [(m.eps, m.momentum) for m in norms[1]]


@pytest.mark.parametrize(("name", "count"), [("efficientnet_b0", 16), ("mobilenet_v3_large", 8),
                                             ("mobilenet_v3_small", 9)])  # fmt: skip
def test_a_block_takes_the_place_of_the_own_se(name: str, count: int) -> None:
    plain = create_model(name)
    positions = slot_positions(plain)
    assert len(positions["se"]) == count
    assert set(positions) == {
        "after_expand", "before_norm", "after_depthwise", "se", "before_project", "before_add",
        "after_add",
    }  # fmt: skip
    net = create_model(name, attention="ca")
    assert not [k for k in net.state_dict() if ".se.fc" in k]
    assert sum(".se.conv_h.weight" in k for k in net.state_dict()) == count


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("efficientnet_b0", (16, 24, 40, 112, 320)),
        ("mobilenet_v3_large", (16, 24, 40, 112, 160)),
        ("mobilenet_v3_small", (16, 24, 48, 96)),
    ],
)
@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_maps_and_output_strides(name: str, channels: tuple[int, ...], output_stride: int) -> None:
    net = create_model(name, features_only=True, output_stride=output_stride, in_channels=1).eval()
    with torch.no_grad():
        maps = net(torch.randn(1, 1, 64, 64))
    sides = [max(32 >> i, 64 // output_stride) for i in range(5)][-len(channels) :]
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, side, side) for c, side in zip(channels, sides, strict=True)
    ]


@pytest.mark.parametrize("name", FILES)
def test_trains_and_pools(name: str) -> None:
    net = create_model(name, attention="eca", num_classes=0)
    y = net(torch.randn(2, 3, 64, 64))
    assert y.shape == (2, 1024 if name == "mobilenet_v3_small" else 1280)
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_stochastic_depth_drops_whole_samples() -> None:
    from convattn.models._layers import _DropSamples

    drop = _DropSamples(0.5).train()
    y = drop(torch.ones(2000, 2, 2, 2))
    kept = y[:, 0, 0, 0]
    assert torch.equal(y, kept[:, None, None, None].expand_as(y))
    assert set(kept.tolist()) == {0.0, 2.0}
    assert 0.45 < (kept > 0).float().mean() < 0.55  # 4.5 standard deviations of 0.011
    x = torch.randn(2, 3, 4, 4)
    assert drop.eval()(x) is x


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("efficientnet_b0", {"num_classes": -1}),
        ("efficientnet_b0", {"in_channels": 0}),
        ("efficientnet_b0", {"output_stride": 4}),
        ("efficientnet_b0", {"stochastic_depth": 1}),
        ("mobilenet_v3_large", {"num_classes": -1}),
        ("mobilenet_v3_large", {"in_channels": 0}),
        ("mobilenet_v3_small", {"output_stride": 4}),
        ("mobilenet_v3_small", {"width_mult": 0}),
        ("mobilenet_v3_small", {"variant": "authors"}),
        *(
            (name, {argument: value})
            for name in ("efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small", "mobilenext")
            for argument, value in (("num_classes", True), ("dropout", 2), ("dropout", "0"))
        ),
        ("mobilenet_v2", {"width_mult": float("inf")}),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        create_model(name, **arguments)
