"""`replace`: counts of the literature, and the way back."""

from __future__ import annotations

import pytest
import torch
from insertion_hosts import build
from torch import Tensor, nn

from convattn import find, insert, remove, replace
from convattn.insertion import insertions, rebuild


@pytest.mark.parametrize("host", ["efficientnet_b0", "timm/efficientnet_b0"])
def test_efficientnet_with_ca(host: str) -> None:
    """CA paper, table 5: 5.4 M; reference/blocks.md section 2 has all digits."""
    model = build(host)
    keys, x = list(model.state_dict()), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
    replace(model, old="se", new="ca", reduction=32)
    assert [f.block for f in find(model)] == ["ca"] * 16
    assert sum(p.numel() for p in model.parameters()) == 5_381_804
    again = rebuild(build(host), insertions(model))
    again.load_state_dict(model.state_dict())
    remove(model)
    assert list(model.state_dict()) == keys
    with torch.no_grad():
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize(
    ("host", "count"),
    [("mobilenet_v3_large", 8), ("regnet_y_400mf", 16), ("timm/regnety_002", 13)],
)
def test_squeeze_excites_are_found(host: str, count: int) -> None:
    assert len(find(replace(build(host), old="se", new="eca"))) == count


def test_effective_se_of_timm() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("ese_vovnet19b_dw")
    assert len(find(replace(model, old="ese", new="eca"))) == 4


class Own(nn.Module):
    """SE as in many repositories: pooled vectors, `expand_as`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, 4), nn.ReLU(True), nn.Linear(4, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        return x * self.fc(self.pool(x).view(n, c)).view(n, c, 1, 1).expand_as(x)


def test_anybodys_se_by_what_it_does() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), Own(16), nn.Sequential(Own(16)), nn.Conv2d(16, 4, 1))
    replace(model, old="se", new="ca", where=lambda place: place.channels == 16)
    assert [f.path for f in find(model)] == ["1", "2.0"]


def test_a_class_and_a_block_of_ours() -> None:
    model = insert(build("resnet18"), "se", at="before_add")
    replace(model, old="se", new="eca", kernel_size=3)
    assert {f.block for f in find(model)} == {"eca"}
    again = rebuild(build("resnet18"), insertions(model))
    assert find(again) == find(model)
    assert find(remove(model)) == []
    replace(model, old=type(model.layer1[0]), new="se", where=lambda place: place.index < 1)
    assert [f.path for f in find(model)] == ["layer1.0"]


def test_what_comes_back_is_as_the_model_now() -> None:
    model = replace(build("mobilenet_v3_large").train(), "se", "ca", input_size=(1, 3, 64, 64))
    remove(model.double().eval())
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not any(module.training for module in model.modules())
    model(torch.zeros(1, 3, 64, 64, dtype=torch.float64))


def test_convolutions_give_their_channels_and_stride() -> None:
    model = build("resnet50")
    replace(model, old="layer[34].?.conv2", new="scconv")
    blocks = [model.get_submodule(f.path) for f in find(model)]
    assert [b.stride for b in blocks] == [2, 1, 1, 1, 1, 1, 2, 1, 1]
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1000)
    remove(model)
    assert isinstance(model.layer3[0].conv2, nn.Conv2d)
