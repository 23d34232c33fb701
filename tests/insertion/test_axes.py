"""Networks on signals (N, C, L) and on volumes (N, C, D, H, W)."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision
from torch import Tensor, nn

from convattn import find, fold, insert, plan, rebuild, remove, replace
from convattn.core.errors import ArgumentError, InputError
from convattn.insertion import insertions, positions


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=1, groups=channels)
        self.norm1, self.act = nn.BatchNorm1d(channels), nn.ReLU()
        self.conv2 = nn.Conv1d(channels, channels, 1)
        self.norm2 = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x))))))


class Gate(nn.Module):
    """Squeeze-and-excitation as one writes it for signals."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.fc = nn.Sequential(
            nn.Conv1d(channels, 4, 1), nn.ReLU(), nn.Conv1d(4, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(self.pool(x))


class Signals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 16, 7, stride=2, padding=3)
        self.first, self.gate = Residual(16), Gate(16)
        self.down = nn.Conv1d(16, 32, 3, stride=2, padding=1)
        self.second = Residual(32)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.down(self.gate(self.first(self.stem(x)))))
        return self.head(y.mean(2))


def signals() -> nn.Module:
    return Signals()


def volumes() -> nn.Module:
    model: nn.Module = torchvision.models.video.r3d_18(num_classes=4)
    return model


INPUTS = {signals: (2, 2, 96), volumes: (1, 3, 4, 32, 32)}


@pytest.mark.parametrize("block", ["ca", "se", "eca", "cbam", "triplet", "gc", "ela"])
@pytest.mark.parametrize("build", [signals, volumes])
def test_the_host_stays_and_comes_back(build: type, block: str) -> None:
    torch.manual_seed(0)
    size = INPUTS[build]
    host, x = build().eval(), torch.randn(size)
    with torch.no_grad():
        before = host(x)
        keys = {name: value.clone() for name, value in host.state_dict().items()}
        table = plan(host, block, at="before_add", input_size=size)
        insert(host, block, at="before_add", input_size=size)
        if block != "triplet":  # a mean of three gates rounds
            assert torch.equal(host(x), before)
        torch.testing.assert_close(host(x), before)
        again = rebuild(build(), json.loads(json.dumps(insertions(host))))
        again.load_state_dict(host.state_dict())
        assert torch.equal(again.eval()(x), host(x))
        folded = fold(again, input_size=size)
        assert {found.gate_scale for found in find(folded)} == {1.0}
        torch.testing.assert_close(folded(x), before)
    added = sum(p.numel() for m in find(host) for p in host.get_submodule(m.path).parameters())
    assert table.parameters == added
    assert len(table) == {signals: 2, volumes: 8}[build]
    remove(host)
    assert all(torch.equal(value, keys[name]) for name, value in host.state_dict().items())
    assert list(host.state_dict()) == list(keys)


def test_positions_and_counts() -> None:
    have = positions(signals())  # no size needed
    assert have["before_add"] == have["after_add"] == have["after_depthwise"] == 2
    # ResNet-18 has eight blocks in four stages
    assert positions(volumes(), input_size=INPUTS[volumes])["before_add"] == 8
    rows = plan(volumes(), "se", at="stage_end", input_size=INPUTS[volumes]).rows
    assert [row.place.channels for row in rows] == [64, 128, 256, 512]
    assert rows[0].place.sizes == ((4, 16, 16),)
    # two products each between C and C / 16 channels
    assert [row.macs for row in rows] == [2 * c * c // 16 for c in (64, 128, 256, 512)]


def test_squeeze_and_excitation_of_signals_is_found() -> None:
    model = replace(signals(), old="se", new="eca")
    assert [(found.path, found.block) for found in find(model)] == [("gate", "eca")]


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match=r"\(N, C, L\), such as \(1, 3, 1024\)"):
        insert(signals(), "ca", at="first", input_size=(1, 3, 224, 224))
    with pytest.raises(ArgumentError, match=r"\(N, C, D, H, W\)"):
        insert(volumes(), "ca", at="layer1", input_size=(1, 3, 224, 224))
    with pytest.raises(ArgumentError, match="have one axis behind the channels, and fca takes two"):
        insert(signals(), "fca", at="first")
    with pytest.raises(InputError, match=r"head .* a block needs a feature map \(N, C, L\)"):
        insert(signals(), "ca", at="head")
