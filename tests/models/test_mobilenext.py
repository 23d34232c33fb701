"""MobileNeXt: positions, maps and output strides, wrong arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convattn import create_model
from convattn.core.errors import ArgumentError
from convattn.insertion.slots import slot_positions


def test_positions() -> None:
    net = create_model("mobilenext")
    counts = {k: len(v) for k, v in slot_positions(net).items()}
    # reference 2.3: 15 blocks with a first depthwise convolution, 18 with a last one
    assert counts == {
        "after_depthwise": 15, "after_expand": 20, "before_add": 20, "after_add": 20,
        "before_norm": 15 + 18,
    }  # fmt: skip
    assert sum(block.residual for block in net.blocks) == 12


@pytest.mark.parametrize(
    ("output_stride", "sides"), [(32, (16, 8, 4, 2)), (16, (16, 8, 4, 4)), (8, (16, 8, 8, 8))]
)
def test_maps_and_output_strides(output_stride: int, sides: tuple[int, ...]) -> None:
    net = create_model(
        "mobilenext", attention="ca", features_only=True, output_stride=output_stride,
        in_channels=1,
    ).eval()  # fmt: skip
    with torch.no_grad():
        maps = net(torch.randn(1, 1, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, side, side) for channels, side in zip((144, 192, 384, 1280), sides, strict=True)
    ]


def test_pooled_features() -> None:
    net = create_model("mobilenext", width_mult=0.35, num_classes=0).eval()
    with torch.no_grad():
        assert net(torch.randn(1, 3, 64, 32)).shape == (1, 1280)


@pytest.mark.parametrize(
    "arguments", [{"width_mult": 0}, {"num_classes": -1}, {"in_channels": 0}, {"output_stride": 4}]
)
def test_wrong_arguments_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        create_model("mobilenext", **arguments)
