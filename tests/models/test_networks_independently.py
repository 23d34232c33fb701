"""The authors' networks against plain functions of the same state dict, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import authors_functional as theirs
import mobile_functional as mobile
import pytest
import torch
from torch import Tensor

from convattn import authors

_JONGCHAN = "Jongchan/attention-module:MODELS/model_resnet.py:ResidualNet"
_TRIPLET = "landskape-ai/triplet-attention:MODELS"
_INSIGHT = "implus/PytorchInsight:classification/models/imagenet"
_GSOP = "ZilinGao/Global-Second-order-Pooling-Convolutional-Networks:torchvision/models/resnet.py"
_SIMAM = "ZjjConan/SimAM:networks/imagenet"
_MBV2_CA = "houqb/CoordAttention:mbv2_ca.py:mbv2_ca"
_D_LI14 = "d-li14/mobilenetv3.pytorch:mobilenetv3.py:mobilenetv3"
_NET: dict[str, Any] = {"network_type": "ImageNet", "num_classes": 1000}
_ONE = {"attention": "simam", "e_lambda": 0.1}

Case = tuple[str, dict[str, Any], Callable[[dict[str, Tensor], Tensor], Any]]


def _res(attention: theirs.Layer = theirs.nothing, **more: Any) -> Callable[..., Any]:
    return lambda s, x: theirs.resnet(s, x, attention, **more)


# convolution and SimAM in a Sequential
_SIMAM_RESNET = _res(
    conv2=lambda s, p, x, stride: theirs.conv(s, f"{p}.0", x, stride),
    after_conv2=theirs.simam(0.1),
)

CASES: list[Case] = [
    (_JONGCHAN, {**_NET, "depth": 18, "att_type": "BAM"}, _res(stage_end=theirs.bam)),
    (_JONGCHAN, {**_NET, "depth": 50, "att_type": "BAM"}, _res(stage_end=theirs.bam)),
    (_JONGCHAN, {**_NET, "depth": 50, "att_type": "CBAM"}, _res(theirs.cbam)),
    (
        f"{_TRIPLET}/resnet.py:ResidualNet",
        {**_NET, "depth": 50, "att_type": "TripletAttention"},
        _res(lambda s, p, x: theirs.triplet(s, f"{p}.triplet_attention", x)),
    ),
    ("BangguWu/ECANet:models/eca_resnet.py:eca_resnet34", {"k_size": [3, 3, 5, 7]},
     _res(theirs.eca)),
    ("BangguWu/ECANet:models/eca_resnet.py:eca_resnet152", {"k_size": [3, 3, 5, 7]},
     _res(theirs.eca)),
    ("moskomule/senet.pytorch:senet/se_resnet.py:se_resnet50", {"num_classes": 10},
     _res(theirs.se)),
    (f"{_INSIGHT}/resnet_se.py:se_resnet50", {}, _res(theirs.se)),
    (f"{_INSIGHT}/resnet_sge.py:sge_resnet50", {}, _res(theirs.sge)),
    (f"{_INSIGHT}/resnet_sk.py:sk_resnet50", {}, _res(block=theirs.sk_block)),
    ("wofmanaf/SA-Net:models/sa_resnet.py:sa_resnet50", {}, _res(theirs.sa)),
    ("cfzd/FcaNet:model/fcanet.py:fcanet50", {}, _res(theirs.fca)),
    ("MCG-NKU/SCNet:scnet.py:scnet50", {}, _res(block=theirs.sc_block)),
    ("murufeng/EPSANet:models/epsanet.py:epsanet50", {}, _res(conv2=theirs.psa)),
    (
        "xvjiarui/GCNet:mmdet/models/backbones/resnet.py:ResNet",
        {"depth": 50, "gcb": {"ratio": "1/16"}, "stage_with_gcb": [False, True, True, True]},
        _res(theirs.gc, maps=True),
    ),
    (
        f"{_GSOP}:resnet50",
        {"att_position": [["0"] * (n - 1) + ["1"] for n in (3, 4, 6, 3)], "att_dim": 128,
         "GSoP_mode": 1},
        _res(theirs.gsop, strides=(1, 2, 2, 1)),
    ),
    (f"{_SIMAM}/resnet.py:resnet18", _ONE, _SIMAM_RESNET),
    (f"{_SIMAM}/resnet.py:resnet50", _ONE, _SIMAM_RESNET),
    (f"{_SIMAM}/mobilenetv2.py:mobilenet_v2", _ONE,
     lambda s, x: mobile.mobilenet_v2(s, x, None, theirs.simam(0.1))),
    (f"{_TRIPLET}/mobilenet.py:triplet_attention_mobilenet_v2", {},
     lambda s, x: mobile.mobilenet_v2(s, x, theirs.triplet, None)),
    (_MBV2_CA, {"width_mult": 0.75},
     lambda s, x: mobile.flat_mobilenet_v2(s, x, mobile.coordinate_attention)),
    (_MBV2_CA, {"reduction": 16},
     lambda s, x: mobile.flat_mobilenet_v2(s, x, mobile.coordinate_attention)),
    (f"{_D_LI14}_large", {}, lambda s, x: mobile.mobilenet_v3(s, x, "121211211111211", 7)),
    (f"{_D_LI14}_small", {"width_mult": 0.75},
     lambda s, x: mobile.mobilenet_v3(s, x, "22121111211", 4)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "arguments", "function"),
    CASES,
    ids=[f"{c[0].split('/')[0]}-{c[0].split(':')[-1]}-{i}" for i, c in enumerate(CASES)],
)
def test_equals_a_plain_function(
    source: str, arguments: dict[str, Any], function: Callable[..., Any]
) -> None:
    net = authors.create(source, **arguments).double().eval()
    gain = 2.0 if "mobilenet" in source or "mbv2" in source else 1.0
    state = {}
    for key, value in authors.to_authors(net, source=source).items():
        noise = torch.randn(value.shape, dtype=torch.float64)
        last = key.rpartition(".")[2]
        if not value.is_floating_point():
            state[key] = value
        elif last == "running_var":
            state[key] = 1 + 0.1 * noise.abs()
        elif last == "weight" and value.dim() >= 2:
            state[key] = gain * noise / value[0].numel() ** 0.5
        else:
            state[key] = (last == "weight") + 0.3 * noise
    authors.load_authors(net, state, source=source)
    size = (64, 96) if source.endswith(("101", "152")) else (128, 160)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        ours, expected = net(x), function(state, x)
    for one, other in zip(
        [ours] if isinstance(ours, Tensor) else ours,
        [expected] if isinstance(expected, Tensor) else expected,
        strict=True,
    ):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 1e-9 * other.std()
        assert not torch.allclose(one[0], one[1])  # the output depends on the image
