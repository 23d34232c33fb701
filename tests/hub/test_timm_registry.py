"""Our networks through timm's own interface."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import convattn
from convattn.core.errors import ArgumentError

timm = pytest.importorskip("timm")
import convattn.hub.timm  # noqa: E402  (registers)


def test_every_network_with_every_block_is_listed_and_timms_own_stay() -> None:
    names = timm.list_models("convattn_*")
    networks = [n for n in convattn.list_models() if "ssd" not in n]
    blocks = [b for b in convattn.list_blocks() if b != "none"]
    expected = [f"convattn_{n}{b}" for n in networks for b in ("", *(f"_{b}" for b in blocks))]
    assert sorted(names) == sorted(expected)
    assert type(timm.create_model("resnet18", num_classes=2)).__module__.startswith("timm.")


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0", "resnet18", "mobilenext"])
def test_the_network_is_ours(name: str) -> None:
    torch.manual_seed(1)
    ours = convattn.create_model(name, attention="ca", num_classes=7, in_channels=4).eval()
    torch.manual_seed(1)
    net = timm.create_model(f"convattn_{name}_ca", num_classes=7, in_chans=4).eval()
    x = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), ours(x))
    assert net.num_classes == 7
    assert timm.data.resolve_model_data_config(net)["input_size"] == (4, 224, 224)
    first, last = (net.get_submodule(net.default_cfg[k]) for k in ("first_conv", "classifier"))
    assert first.in_channels == 4
    assert (last.in_features, last.out_features) == (net.num_features, 7)


def test_pooled_features() -> None:
    net = timm.create_model("convattn_mobilenet_v3_small", num_classes=0).eval()
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, net.num_features)


@pytest.mark.parametrize(
    ("arguments", "channels", "reductions"),
    [
        ({}, [16, 24, 32, 96, 320], [2, 4, 8, 16, 32]),
        ({"out_indices": (1, 3), "in_chans": 1}, [24, 96], [4, 16]),
        ({"out_indices": (-1,), "output_stride": 8}, [320], [8]),
    ],
)
def test_maps(arguments: dict[str, Any], channels: list[int], reductions: list[int]) -> None:
    net = timm.create_model("convattn_mobilenet_v2_se", features_only=True, **arguments).eval()
    assert net.feature_info.channels() == channels
    assert net.feature_info.reduction() == reductions
    with torch.no_grad():
        maps = net(torch.zeros(1, arguments.get("in_chans", 3), 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (1, c, 64 // r, 96 // r) for c, r in zip(channels, reductions, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("convattn_mobilenet_v2_ca", {"pretrained": True}, "load_authors"),
        ("convattn_resnet18_ca", {"drop_rate": 0.2}, "no dropout"),
        ("convattn_resnet18_ca", {"features_only": True, "out_indices": (4,)}, r"0\.\.3"),
        ("convattn_resnet18_ca", {"drop_path_rate": 0.1}, "no argument 'drop_path_rate'"),
    ],
)
def test_what_we_do_not_have_is_refused(name: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        timm.create_model(name, **arguments)
