"""Networks saved to a folder and made again, bit for bit and without a network connection."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convattn
from convattn.core.errors import ArgumentError, CheckpointError, StateDictError
from convattn.hub import HubModel

SMALL: dict[str, Any] = {"width_mult": 0.25, "num_classes": 5}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to connect fails the test."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)


def same(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return list(one) == list(other) and all(
        one[k].dtype == other[k].dtype and torch.equal(one[k], other[k]) for k in one
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mobilenet_v2", {**SMALL, "attention": "ca", "attention_args": {"reduction": 16}}),
        ("mobilenet_v2", {**SMALL, "attention": "eca", "attention_init": "identity",
                          "strides": (1, 1, 1, 2, 2, 1, 2, 1), "at": "before_add"}),
        ("resnet18", {"attention": "eca", "attention_per_stage": {"kernel_size": [3, 5, 7, 7]},
                      "attention_stages": (2, 3), "stem": "cifar", "num_classes": 0}),
        ("efficientnet_b0", {"attention": "none", "at": "se", "features_only": True}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_comes_back(
    name: str, arguments: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    net = convattn.create_model(name, **arguments).to(dtype).eval()
    HubModel(net).save_pretrained(tmp_path)
    back = HubModel.from_pretrained(tmp_path)
    assert type(back.network) is type(net)
    assert same(back.network, net)
    x = torch.randn(1, 3, 64, 64, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(back(x), net(x), rtol=0, atol=0)
    HubModel(back.network).save_pretrained(tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / file).read_bytes()


def test_the_files_are_the_networks_own(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    net = convattn.create_model("mobilenet_v2", attention="se", **SMALL)
    HubModel(net).save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == net.state_dict().keys()
    assert json.loads((tmp_path / "config.json").read_text())["create_model"] == {
        "name": "mobilenet_v2", "attention": "se", "attention_init": "authors", **SMALL,
    }  # fmt: skip
    assert "library_name: convattn" in (tmp_path / "README.md").read_text()


def test_blocks_inserted_into_any_network_travel_along(tmp_path: Path) -> None:
    def host() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1)
        )

    net = convattn.insert(host(), "ca", at="1", reduction=4).eval()
    HubModel(net).save_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match=r"host=network"):
        HubModel.from_pretrained(tmp_path)
    back = HubModel.from_pretrained(tmp_path, host=host()).network
    assert same(back, net)
    assert [found.path for found in convattn.find(back)] == ["1.attention"]

    ours = convattn.insert(convattn.create_model("mobilenet_v2", **SMALL), "eca", at="before_add")
    HubModel(ours).save_pretrained(tmp_path / "ours")
    back = HubModel.from_pretrained(tmp_path / "ours").network
    assert same(back, ours)
    assert [f.inserted for f in convattn.find(back)] == [f.inserted for f in convattn.find(ours)]


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    net = convattn.create_model("mobilenet_v2", **SMALL)
    HubModel(net).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["create_model"]["num_classes"] = 6
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(StateDictError, match=r"classifier\.weight"):
        HubModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not saved by convattn"):
        HubModel.from_pretrained(tmp_path)
    net.origin = {"name": "mobilenet_v2", "strides": torch.Size}
    with pytest.raises(ArgumentError, match="JSON cannot hold"):
        HubModel(net).save_pretrained(tmp_path / "never")


def test_without_the_library_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "import convattn.hub\n"
        "try: convattn.hub.HubModel\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "convattn[hub]"' in done.stdout
