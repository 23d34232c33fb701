"""Detectors and segmenters: published sizes, the authors' boxes and maps, gradients everywhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from convattn import create_model
from convattn.core.errors import ArgumentError, UnknownNameError
from convattn.models.dense import DETECTORS, SEGMENTERS, assemble, backbone_of
from convattn.models.dense.features import freeze_norms, measure


def build(
    name: str,
    backbone: str,
    classes: int,
    host: dict[str, Any] | None = None,
    **arguments: Any,
) -> nn.Module:
    chosen, own, rest = backbone_of(name, backbone, arguments)
    return assemble(name, create_model(chosen, **{**(host or {}), **own}), classes, **rest)


def parameters(model: nn.Module, trained: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained)


# from torchvision's documentation of its weights (COCO's 91 ids, VOC's 21 classes)
TORCHVISION = [
    ("retinanet", "resnet50", 91, {"norm": "frozen"}, 34_014_999),
    ("faster_rcnn", "resnet50", 90, {"norm": "frozen"}, 41_755_286),
    ("mask_rcnn", "resnet50", 90, {"norm": "frozen"}, 44_401_393),
    ("deeplabv3", "resnet50", 21, {"output_stride": 8, "aux": True}, 42_004_074),
    ("deeplabv3", "resnet101", 21, {"output_stride": 8, "aux": True}, 60_996_202),
]


@pytest.mark.parametrize(("name", "backbone", "classes", "arguments", "expected"), TORCHVISION)
def test_sizes_that_torchvision_publishes(
    name: str, backbone: str, classes: int, arguments: dict[str, Any], expected: int
) -> None:
    with torch.device("meta"):
        assert parameters(build(name, backbone, classes, **arguments)) == expected


@pytest.mark.parametrize("width", [64, 256])
def test_width_of_pyramid_and_heads(width: int) -> None:
    classes, w = 10, width
    with torch.device("meta"):
        model = build("mask_rcnn", "resnet18", classes, width=width)
        host = parameters(create_model("resnet18", features_only=True))
    pyramid = sum(c * w + w for c in (64, 128, 256, 512)) + 4 * (9 * w * w + w)
    proposals = 9 * w * w + w + 3 * (w + 1) + 12 * (w + 1)
    boxes = (49 * w + 1) * 4 * w + (4 * w + 1) * 4 * w + (4 * w + 1) * 5 * (classes + 1)
    masks = 4 * (9 * w * w + w) + 4 * w * w + w + (w + 1) * (classes + 1)
    assert parameters(model) == host + pyramid + proposals + boxes + masks


# houqb/ssdlite-pytorch-mobilenext, counted from its code; README of CoordAttention: 4.3M
SSDLITE = [
    ("mobilenet_v2", 80, {"boxes": "coco"}, 4_304_138),
    ("mobilenet_v2", 20, {"boxes": "voc"}, 3_425_988),
    ("mobilenext", 80, {"boxes": "coco"}, 4_539_418),
]


@pytest.mark.parametrize(("backbone", "classes", "arguments", "expected"), SSDLITE)
def test_sizes_of_the_authors_ssdlite(
    backbone: str, classes: int, arguments: dict[str, Any], expected: int
) -> None:
    with torch.device("meta"):
        assert parameters(build("ssdlite320", backbone, classes, **arguments)) == expected


# README of BangguWu/ECANet, in millions: without the frozen stem and first stage, 80 classes
ECA = [
    ("faster_rcnn", "resnet50", 41.53),
    ("faster_rcnn", "resnet101", 60.52),
    ("mask_rcnn", "resnet50", 44.18),
    ("mask_rcnn", "resnet101", 63.17),
    ("retinanet", "resnet50", 37.74),
    ("retinanet", "resnet101", 56.74),
]


@pytest.mark.parametrize(("name", "backbone", "expected"), ECA)
def test_sizes_of_ecas_table(name: str, backbone: str, expected: float) -> None:
    more = {"p6": "c5"} if name == "retinanet" else {}
    with torch.device("meta"):
        model = build(name, backbone, 80, {"attention": "eca"}, frozen_stages=1, **more)
    assert round(parameters(model, trained=True) / 1e6, 2) == expected


def authors_boxes(which: str) -> Tensor:
    """The default boxes written out from the authors' settings: centres and sides, 0 to 1."""
    low = (45, 90, 135, 180, 225, 270)
    high = {"coco": (90, 135, 180, 225, 270, 315), "voc": (120, 180, 220, 260, 300, 320)}[which]
    found = []
    for level, (side, stride) in enumerate(
        zip((20, 10, 5, 3, 2, 1), (16, 32, 64, 120, 160, 320), strict=True)
    ):
        ratios = (2,) if which == "coco" and level == 5 else (2, 3)
        shapes = [(low[level],) * 2, (math.sqrt(low[level] * high[level]),) * 2]
        for r in ratios:
            wide, narrow = low[level] * math.sqrt(r), low[level] / math.sqrt(r)
            shapes += [(wide, narrow), (narrow, wide)]
        for i in range(side):
            for j in range(side):
                for w, h in shapes:
                    row = [(j + 0.5) * stride, (i + 0.5) * stride, min(w, 320), min(h, 320)]
                    found.append([v / 320 for v in row])
    return torch.tensor(found)


@pytest.mark.parametrize("which", ["coco", "voc"])
@pytest.mark.parametrize("backbone", ["mobilenet_v2", "mobilenext"])
def test_the_authors_default_boxes(backbone: str, which: str) -> None:
    model = build("ssdlite320", backbone, 3, {"width_mult": 0.35}, boxes=which).eval()
    with torch.no_grad():
        maps = list(model.backbone(torch.zeros(1, 3, 320, 320)).values())
    assert [m.shape[2] for m in maps] == [20, 10, 5, 3, 2, 1]
    images = ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
    (corners,) = model.anchor_generator(images, maps)
    expected = authors_boxes(which) * 320
    centre, sides = expected[:, :2], expected[:, 2:]
    torch.testing.assert_close(
        corners, torch.cat([centre - sides / 2, centre + sides / 2], 1), rtol=0, atol=1e-3
    )


def test_focal_loss_and_scores_by_hand() -> None:
    model = build("ssdlite320", "mobilenet_v2", 2, size=64, loss="focal", nms_thresh=0.5)
    logits = torch.zeros(1, 3, 3)
    logits[0, 0] = torch.tensor([2.0, -1.0, 9.0])
    anchors = torch.tensor([[0.0, 0, 10, 10], [20.0, 20, 40, 40], [50, 50, 60, 60.0]])
    target = {"boxes": anchors[:1], "labels": torch.tensor([1])}
    outputs = {"cls_logits": logits, "bbox_regression": torch.zeros(1, 3, 4)}
    parts = model.compute_loss([target], outputs, [anchors], [torch.tensor([0, -1, -1])])

    def term(logit: float, wanted: bool) -> float:
        p = 1 / (1 + math.exp(-logit))
        if wanted:
            return -0.25 * (1 - p) ** 2 * math.log(p)
        return -0.75 * p**2 * math.log(1 - p)

    expected = term(2.0, True) + sum(
        term(float(v), False) for k, v in enumerate(logits.flatten()) if k != 0
    )
    assert float(parts["classification"]) == pytest.approx(5 * expected, rel=1e-5)
    assert float(parts["bbox_regression"]) == 0

    (found,) = model.postprocess_detections(outputs, [anchors], [(64, 64)])
    # The last column is no class, however large. Of anchor 0 the score of class 1 is sigmoid(2).
    assert found["labels"][0] == 1
    assert float(found["scores"][0]) == pytest.approx(1 / (1 + math.exp(-2)))
    torch.testing.assert_close(found["boxes"][0], anchors[0])
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
    assert len(found["scores"]) == 6  # three boxes, two classes, nothing overlaps


def targets(first: int, masks: bool) -> list[dict[str, Tensor]]:
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[0, 10:40, 8:40] = 1
    found = {"boxes": torch.tensor([[8.0, 10, 40, 40]]), "labels": torch.tensor([first + 1])}
    return [found | ({"masks": mask} if masks else {})] * 2


BACKBONES = [
    ("ssdlite320", "mobilenet_v2", {"width_mult": 0.35}, {"size": 64}),
    ("ssdlite320", "mobilenext", {"width_mult": 0.35}, {"size": 64, "loss": "focal"}),
    ("retinanet", "mobilenet_v2", {"width_mult": 0.35}, {}),
    ("faster_rcnn", "resnet18", {}, {}),
    ("mask_rcnn", "mobilenet_v2", {"width_mult": 0.35}, {}),
]


@pytest.mark.parametrize(("name", "backbone", "host", "arguments"), BACKBONES)
def test_a_step_and_detections(
    name: str, backbone: str, host: dict[str, Any], arguments: dict[str, Any]
) -> None:
    if name != "ssdlite320":
        arguments = {**arguments, "min_size": 64, "max_size": 64}
    model = build(name, backbone, 3, {**host, "attention": "ca"}, **arguments)
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
    losses = model.train()(images, targets(model.first_label, name == "mask_rcnn"))
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []
    found = model.eval()([torch.rand(3, 64, 64), torch.rand(3, 48, 80)])
    assert [set(f) >= {"boxes", "scores", "labels"} for f in found] == [True, True]


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize(
    ("backbone", "host"), [("mobilenet_v2", {"width_mult": 0.35}), ("resnet18", {})]
)
def test_segmenters_keep_the_size(backbone: str, host: dict[str, Any], stride: int) -> None:
    model = build("deeplabv3", backbone, 5, {**host, "attention": "ca"}, output_stride=stride)
    x = torch.rand(2, 3, 65, 49)
    assert model.backbone(x)["out"].shape[2:] == tuple(-(-side // stride) for side in x.shape[2:])
    out = model(x)["out"]
    assert out.shape == (2, 5, 65, 49)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    rates = [m.dilation[0] for m in model.classifier.modules() if isinstance(m, nn.Conv2d)]
    assert [r for r in rates if r > 1] == ([6, 12, 18] if stride == 16 else [12, 24, 36])


def test_lraspp_and_a_separable_head() -> None:
    model = build("lraspp", "mobilenet_v2", 5, {"width_mult": 0.35})
    assert model(torch.rand(2, 3, 64, 48))["out"].shape == (2, 5, 64, 48)
    with torch.device("meta"):
        plain, slim = (build("deeplabv3", "mobilenet_v2", 21, separable=s) for s in (False, True))
    # four 3x3 convolutions of 320 (three) and 256 (one) channels to 256
    saved = sum(9 * c * 256 - (9 * c + 2 * c + c * 256) for c in (320, 320, 320, 256))
    assert parameters(plain) - parameters(slim) == saved


def test_frozen_norms_compute_what_they_did_in_eval() -> None:
    host = create_model("resnet18", features_only=True)
    for module in host.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.weight)
    x = torch.rand(1, 3, 64, 64)
    before = host.eval()(x)[-1]
    freeze_norms(host)
    torch.testing.assert_close(host.train()(x)[-1], before)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in host.modules())


def test_held_norms_keep_their_statistics_and_learn() -> None:
    model = build("retinanet", "resnet18", 2, norm="eval", min_size=64, max_size=64)
    norms = [m for m in model.backbone.body.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.running_mean)
    before = [norm.running_mean.clone() for norm in norms]
    image = torch.rand(3, 64, 64)
    losses = model.train()([image, image], targets(0, False))
    sum(losses.values()).backward()
    assert len(norms) == 20
    assert all(torch.equal(n.running_mean, b) for n, b in zip(norms, before, strict=True))
    assert all(n.weight.grad is not None for n in norms)
    x = torch.rand(2, 3, 64, 64)
    host = model.backbone.body.host
    assert torch.equal(host.train()(x)[-1], host.eval()(x)[-1])


def test_frozen_stages_are_stem_and_first_stages() -> None:
    for count, expected in (
        (1, {"conv1", "bn1", "layer1"}),
        (2, {"conv1", "bn1", "layer1", "layer2"}),
    ):
        with torch.device("meta"):
            model = build("retinanet", "resnet18", 2, frozen_stages=count)
        host = model.backbone.body.host
        frozen = {n.split(".")[0] for n, p in host.named_parameters() if not p.requires_grad}
        assert frozen == expected
        assert all(not p.requires_grad for p in host.layer1.parameters())
    with pytest.raises(ArgumentError, match="frozen_stages must be 0 to 4"):
        build("retinanet", "resnet18", 2, frozen_stages=5)


def test_measuring_changes_nothing() -> None:
    host = create_model("mobilenet_v2", features_only=True, width_mult=0.35).train()
    before = {k: v.clone() for k, v in host.state_dict().items()}
    assert measure(host)[1] == [2, 4, 8, 16, 32]
    assert host.training
    assert all(torch.equal(v, before[k]) for k, v in host.state_dict().items())


def test_what_is_refused() -> None:
    assert set(DETECTORS) | set(SEGMENTERS) == {
        "ssdlite320", "retinanet", "faster_rcnn", "mask_rcnn", "deeplabv3", "lraspp",
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match="did you mean 'retinanet'"):
        backbone_of("retinanets", "resnet18", {})
    with pytest.raises(
        ArgumentError, match="ssdlite320 has the backbones mobilenet_v2, mobilenext"
    ):
        backbone_of("ssdlite320", "resnet18", {})
    with pytest.raises(ArgumentError, match=r"deeplabv3 has no argument 'rate'.*mean 'rates'"):
        backbone_of("deeplabv3", "resnet18", {"rate": 3})
    with pytest.raises(ArgumentError, match="returns no list of maps"):
        assemble("lraspp", create_model("resnet18", num_classes=2), 2)
    with pytest.raises(ArgumentError, match=r"no argument 'min_sizes'; did you mean 'min_size'"):
        backbone_of("retinanet", "resnet18", {"min_sizes": 3})
    host = create_model("resnet18", features_only=True)
    with pytest.raises(ArgumentError, match="cannot be built with"):
        assemble("lraspp", host, 2, inter_channels="many")
    with pytest.raises(ArgumentError, match="rates must be integers"):
        assemble("deeplabv3", host, 2, rates=[0])
    with pytest.raises(ArgumentError, match="norm must be one of"):
        assemble("retinanet", host, 2, norm="group")
    with pytest.raises(ArgumentError, match="needs a backbone with 6 maps"):
        assemble("ssdlite320", host, 2)
