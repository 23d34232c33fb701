"""ResNets for CIFAR: the paper's sizes, a plain function, trained weights on the test images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convattn import authors, create_model
from convattn.core.errors import ArgumentError
from convattn.data.formats.cifar import open_pack
from oracles import SHARED

WEIGHTS = SHARED / "data" / "weights" / "resnet20_cifar10-12fca82f.th"
IMAGES = SHARED / "data" / "classification" / "cifar10"
SOURCE = "akamaster/pytorch_resnet_cifar10:resnet.py:resnet20"


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_sizes_of_the_paper(depth: int, millions: float) -> None:
    """He et al. 2016, table 6; and the closed formula of 6n + 2 layers."""
    with torch.device("meta"):
        net = create_model(f"resnet{depth}")
    size = sum(p.numel() for p in net.parameters())
    assert round(size / 1e6, 1 if depth == 110 else 2) == millions
    n = depth // 6
    convs = 27 * 16 + 9 * (2 * n * 16**2 + (2 * n - 1) * (32**2 + 64**2) + 16 * 32 + 32 * 64)
    norms = 2 * (16 + 2 * n * (16 + 32 + 64))
    assert size == convs + norms + 64 * 10 + 10


def expected(s: dict[str, Tensor], x: Tensor) -> Tensor:
    def layer(name: str, y: Tensor, stride: int = 1) -> Tensor:
        y = F.conv2d(y, s[name.replace("bn", "conv") + ".weight"], None, stride, 1)
        mean, var = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        return F.batch_norm(y, mean, var, s[f"{name}.weight"], s[f"{name}.bias"])

    x = F.relu(layer("bn1", x))
    for stage in (1, 2, 3):
        for i in range(3):
            stride = 2 if stage > 1 and i == 0 else 1
            y = F.relu(layer(f"layer{stage}.{i}.bn1", x, stride))
            y = layer(f"layer{stage}.{i}.bn2", y)
            if stride == 2:
                quarter = torch.zeros_like(y[:, : y.shape[1] // 4])
                x = torch.cat((quarter, x[:, :, ::2, ::2], quarter), 1)
            x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), s["linear.weight"], s["linear.bias"])


@pytest.mark.parametrize("size", [(32, 32), (17, 40)])
def test_equals_a_plain_function(size: tuple[int, int]) -> None:
    net = create_model("resnet20").double().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.bias)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        wanted = expected(authors.to_authors(net, source=SOURCE), x)
        assert (net(x) - wanted).abs().max() <= 1e-9 * wanted.std()


def test_blocks_maps_and_pooled_features() -> None:
    net = create_model("resnet20", attention="ca", attention_args={"reduction": 8}, num_classes=0)
    assert sum(".before_add.conv_h.weight" in key for key in net.state_dict()) == 9
    with torch.no_grad():
        assert net.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 64) == (1, net.num_features)
        maps = create_model("resnet20", features_only=True).eval()(torch.randn(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("3 values of 1 or 2", {"strides": (1, 2)}),
        ("planes must be 3 positive integers", {"planes": (16, 32)}),
        ("shortcut must be one of 'conv', 'pad'", {"shortcut": "none"}),
    ],
)
def test_wrong_arguments_are_named(text: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match=text):
        create_model("resnet20", **arguments)


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the shared weights are not here")
@pytest.mark.skipif(not IMAGES.is_dir(), reason="the shared CIFAR-10 images are not here")
def test_trained_weights_recognise_the_test_images() -> None:
    """The first 1,000; all 10,000 score the 91.73 % of the weights' README here (9,173 hits)."""
    pytest.importorskip("PIL.Image")
    net = authors.load_authors(authors.create(SOURCE), WEIGHTS, source=SOURCE).eval()
    _, test, _, _ = open_pack(IMAGES, train_count=1, test_count=1000)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        logits = net((test.images.float() / 255 - mean) / std)
    hits = int((logits.argmax(1) == test.labels).sum())
    assert abs(hits - 917.3) <= 27  # three standard deviations of 1,000 draws; 936 here
