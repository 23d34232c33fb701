"""timm's networks: state dicts there and back, the same logits in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from convattn import authors, create_model

timm = pytest.importorskip("timm")

_MODELS = "huggingface/pytorch-image-models:timm/models"
SOURCES = [name for name in authors.list_sources() if name.startswith(_MODELS)]


def name_of(source: str) -> str:
    return source.rpartition(":")[2]


def randomised(net: nn.Module) -> nn.Module:
    """Statistics and scales of the norms that differ from layer to layer."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
    return net


def test_the_plain_families_are_known() -> None:
    assert {name_of(s).rstrip("0123456789") for s in SOURCES} == {
        "resnet", "seresnet", "mobilenetv2_", "efficientnet_b", "mobilenetv3_large_",
        "mobilenetv3_small_",
    }  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_keys_shapes_and_norms(source: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name_of(source), num_classes=7, in_chans=4)
        net = authors.create(source, num_classes=7, in_chans=4)
    ours = authors.to_authors(net, source=source)
    assert [(k, v.shape) for k, v in ours.items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]
    norms = [[m for m in n.modules() if isinstance(m, nn.BatchNorm2d)] for n in (net, theirs)]
    assert [(m.eps, m.momentum) for m in norms[0]] == [(m.eps, m.momentum) for m in norms[1]]


@pytest.mark.parametrize(
    "name",
    ["resnet18", "seresnet18", "seresnet50", "mobilenetv2_050", "efficientnet_b0",
     "mobilenetv3_large_075", "mobilenetv3_large_100", "mobilenetv3_small_050",
     "mobilenetv3_small_100"],
)  # fmt: skip
def test_logits_are_timms(name: str) -> None:
    source = next(s for s in SOURCES if name_of(s) == name)
    theirs = randomised(timm.create_model(name, num_classes=7)).double().eval()
    net = authors.create(source, num_classes=7).double().eval()
    authors.load_authors(net, theirs.state_dict(), source=source)
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(x)
        assert (net(x) - expected).abs().max() <= 1e-9 * expected.std()
    assert expected.std() > 1e-3


@pytest.mark.parametrize(
    ("name", "ours"),
    [("mobilenetv2_050", ("mobilenet_v2", {"width_mult": 0.5})),
     ("efficientnet_b0", ("efficientnet_b0", {}))],
)  # fmt: skip
@pytest.mark.parametrize("output_stride", [16, 8])
def test_dilation_is_timms(name: str, ours: tuple[str, dict[str, Any]], output_stride: int) -> None:
    source = next(s for s in SOURCES if name_of(s) == name)
    theirs = randomised(timm.create_model(name, output_stride=output_stride)).double().eval()
    net = create_model(ours[0], output_stride=output_stride, **ours[1]).double().eval()
    authors.load_authors(net, theirs.state_dict(), source=source)
    x = torch.randn(1, 3, 65, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(x)
        assert (net(x) - expected).abs().max() <= 1e-9 * expected.std()
