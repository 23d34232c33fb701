"""Every network of every source: it can be built, and its keys are one to one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convattn import authors

JONGCHAN = "Jongchan/attention-module:MODELS/model_resnet.py:ResidualNet"
TRIPLET = "landskape-ai/triplet-attention:MODELS/resnet.py:ResidualNet"
INSIGHT = "implus/PytorchInsight:classification/models/imagenet"
ALL, DEEP = (18, 34, 50, 101, 152), (50, 101, 152)

# the functions that the authors' files define
FUNCTIONS = {
    "BangguWu/ECANet:models/eca_resnet.py:eca_resnet{}": ALL,
    "moskomule/senet.pytorch:senet/se_resnet.py:se_resnet{}": ALL,
    f"{INSIGHT}/resnet_se.py:se_resnet{{}}": ALL,
    f"{INSIGHT}/resnet_sge.py:sge_resnet{{}}": ALL,
    f"{INSIGHT}/resnet_sk.py:sk_resnet{{}}": DEEP,
    "cfzd/FcaNet:model/fcanet.py:fcanet{}": (34, *DEEP),
    "wofmanaf/SA-Net:models/sa_resnet.py:sa_resnet{}": DEEP,
    "MCG-NKU/SCNet:scnet.py:scnet{}": (50, 101),
    "murufeng/EPSANet:models/epsanet.py:epsanet{}": (50, 101),
    "ZjjConan/SimAM:networks/imagenet/resnet.py:resnet{}": ALL,
}

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name.format(depth), {}) for name, depths in FUNCTIONS.items() for depth in depths),
    *(
        (source, {"network_type": kind, "depth": depth, "num_classes": 7, "att_type": attention})
        for source, attention in ((JONGCHAN, "CBAM"), (JONGCHAN, "BAM"), (JONGCHAN, None),
                                  (TRIPLET, "TripletAttention"))
        for kind, depth in (("CIFAR10", 18), *(("ImageNet", d) for d in (34, 50, 101)))
    ),
    *(
        ("xvjiarui/GCNet:mmdet/models/backbones/resnet.py:ResNet",
         {"depth": depth, "gcb": {"ratio": 1 / 4}, "stage_with_gcb": [False, False, True, True]})
        for depth in DEEP
    ),
    *(("houqb/CoordAttention:mbv2_ca.py:mbv2_ca", {"width_mult": w}) for w in (0.1, 0.35, 1.4)),
    *(("zhoudaquan/rethinking_bottleneck_design:mobilenext/codebase/models/mnext.py:mnext",
       {"width_mult": w}) for w in (0.1, 0.35, 1.4)),
    *((f"d-li14/mobilenetv3.pytorch:mobilenetv3.py:mobilenetv3_{size}", {"width_mult": w})
      for size in ("large", "small") for w in (0.75, 1.25)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "arguments"),
    CASES,
    ids=[
        f"{source.split('/')[0]}-{source.split(':')[-1]}-{i}" for i, (source, _) in enumerate(CASES)
    ],
)
def test_builds_runs_and_has_a_name_for_every_key(source: str, arguments: dict[str, Any]) -> None:
    with torch.device("meta"), torch.no_grad():
        net = authors.create(source, **arguments).eval()
        output = net(torch.zeros(1, 3, 224, 224))
    ours, theirs = net.state_dict(), authors.to_authors(net, source=source)
    assert len(theirs) == len(ours)  # no two of ours became one of theirs
    assert sum(v.numel() for v in theirs.values()) == sum(v.numel() for v in ours.values())
    if "num_classes" in arguments:
        assert output.shape == (1, 7)


def test_every_known_network_function_is_meant_above() -> None:
    """A new function of these files belongs into the list."""
    listed = {name.format(depth) for name, depths in FUNCTIONS.items() for depth in depths}
    files = {name.rpartition(":")[0] for name in FUNCTIONS}
    found = {
        source
        for source in authors.list_sources()
        if source.rpartition(":")[0] in files and source[-1].isdigit()
    }
    assert found == listed
