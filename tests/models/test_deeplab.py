"""The authors' DeepLabV3 head: a plain function of a state dict, and their trained weights."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn import authors, create_model
from convattn.core.weights import read_weights
from convattn.data.formats.voc import CLASSES
from convattn.models.dense import assemble
from convattn.tasks.segmentation import ious
from oracles import SHARED

SOURCE = "google-coral/test_data:deeplabv3_mnv2_pascal_quant.tflite:DeepLabV3"
WEIGHTS = SHARED / "data" / "weights" / "deeplabv3_mobilenet_v2_voc.pth"
PHOTOS = SHARED / "data" / "detection" / "coco126"

VOC = ("background", *CLASSES)
IN_COCO = {
    "aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv",
    "diningtable": "dining table", "pottedplant": "potted plant",
}  # fmt: skip


def plain_head(s: dict[str, Tensor], x: Tensor) -> Tensor:
    """Image pooling first, a 1x1 branch, joined, and the classifier; under the file's keys."""

    def layer(p: str, y: Tensor) -> Tensor:
        y = torch.einsum("oc,nchw->nohw", s[f"{p}.0.weight"][:, :, 0, 0], y)
        mean, var, scale, shift = (
            s[f"{p}.1.{k}"][:, None, None]
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return ((y - mean) / (var + 1e-5).sqrt() * scale + shift).clamp_min(0)

    pooled = layer("image_pooling", x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
    joined = layer("concat_projection", torch.cat((pooled, layer("aspp0", x)), 1))
    weight = s["logits.weight"][:, :, 0, 0]
    return torch.einsum("oc,nchw->nohw", weight, joined) + s["logits.bias"][:, None, None]


def drawn(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same keys with other values, of a scale that keeps maps in range."""
    found = {}
    for key, value in state.items():
        noise = torch.randn(value.shape, dtype=torch.float64)
        if not value.is_floating_point():
            found[key] = value
        elif key.endswith("running_var"):
            found[key] = 1 + 0.1 * noise.abs()
        elif value.dim() == 4:
            found[key] = 1.5 * noise / value[0].numel() ** 0.5
        else:
            found[key] = key.endswith("weight") + 0.1 * noise
    return found


def test_the_head_equals_a_plain_function() -> None:
    net = authors.create(SOURCE, num_classes=5).double().eval()
    state = drawn(authors.to_authors(net, source=SOURCE))
    authors.load_authors(net, state, source=SOURCE)
    x = torch.randn(2, 3, 49, 33, dtype=torch.float64)
    with torch.no_grad():
        found = net(x)["out"]
        small = plain_head(state, net.backbone(x)["out"])
    assert small.shape == (2, 5, 4, 3)
    assert found.shape == (2, 5, 49, 33)
    # 49 = 16 * 3 + 1: with aligned corners each sixteenth pixel is one of the small map
    assert (found[:, :, ::16, ::16] - small).abs().max() <= 1e-9 * small.std()
    middle = (small[:, :, :, :-1] + small[:, :, :, 1:]) / 2
    assert (found[:, :, ::16, 8::16] - middle).abs().max() <= 1e-9 * small.std()
    assert not torch.allclose(small[0], small[1])


def test_the_authors_head_keeps_to_its_arguments() -> None:
    host = create_model("mobilenet_v2", features_only=True, width_mult=0.35, output_stride=16)
    arguments: dict[str, Any] = {"head": "tensorflow", "aux": True, "separable": True}
    net = assemble("deeplabv3", host, 3, rates=[2, 4], **arguments)
    rates = [m.dilation[0] for m in net.classifier.modules() if isinstance(m, nn.Conv2d)]
    assert sorted(r for r in rates if r > 1) == [2, 4]
    assert [m.p for m in net.classifier.modules() if isinstance(m, nn.Dropout)] == [0.1]
    found = net(torch.rand(2, 3, 33, 49))
    assert {name: each.shape for name, each in found.items()} == {
        "out": (2, 3, 33, 49), "aux": (2, 3, 33, 49),
    }  # fmt: skip
    sum(each.sum() for each in found.values()).backward()
    assert all(p.grad is not None for p in net.parameters())
    assert not any(m.kernel_size == (3, 3) and m.groups == 1
                   for m in net.classifier.modules() if isinstance(m, nn.Conv2d))  # fmt: skip


def labels_of(stored: Tensor, names: dict[int, str]) -> Tensor:
    """COCO's panoptic category ids as VOC's classes; other categories are background."""
    table = torch.zeros(256, dtype=torch.int64)
    table[0] = 255  # unlabelled: ignored
    for number, name in names.items():
        for label, voc in enumerate(VOC):
            if IN_COCO.get(voc, voc) == name:
                table[number] = label
    return table[stored.long()]


@pytest.mark.long
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the shared weights are not here")
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the shared COCO photos are not here")
def test_the_trained_weights_reach_their_stated_score() -> None:
    """50.0 % mean IoU on 100 photos of COCO, as SOURCES.md states; here 50.03 %.

    The convention is not stated there. It is: photos squeezed to 513x513, logits enlarged to the
    photo's size with aligned corners, unlabelled pixels ignored, things that VOC has not as
    background, and the mean over the 20 classes that the photos show. With unlabelled pixels as
    background it is 47.8 %; with "cow", never there but predicted for two pixels, as a class with
    an IoU of 0, 47.65 %.
    """
    image_class = pytest.importorskip("PIL.Image")
    np = pytest.importorskip("numpy")
    stored = read_weights(WEIGHTS)
    state = {k: v.float() if v.is_floating_point() else v for k, v in stored.items()}
    net = authors.load_authors(authors.create(SOURCE), state, source=SOURCE).eval()
    net.to(memory_format=torch.channels_last)  # faster here
    names = {c["id"]: c["name"] for c in json.loads((PHOTOS / "semantic_classes.json").read_text())}
    confusion = torch.zeros(21, 21, dtype=torch.int64)
    with (
        tarfile.open(PHOTOS / "semantic_val.tar") as masks,
        tarfile.open(PHOTOS / "images_val.tar") as photos,
    ):
        members = masks.getmembers()
        for member in members:
            mask = np.array(image_class.open(masks.extractfile(member)))  # type: ignore[arg-type]
            truth = labels_of(torch.from_numpy(mask), names)
            data = photos.extractfile(member.name.replace("png", "jpg")).read()  # type: ignore[union-attr]
            photo = image_class.open(io.BytesIO(data)).convert("RGB").resize((513, 513), 2)
            x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 127.5 - 1
            with torch.no_grad():
                logits = net(x)["out"]
            logits = F.interpolate(logits, truth.shape, mode="bilinear", align_corners=True)
            valid = truth != 255
            pairs = truth[valid] * 21 + logits.argmax(1)[0][valid]
            confusion += torch.bincount(pairs, minlength=441).view(21, 21)
    shown = confusion.sum(1) > 0
    assert len(members) == 100
    assert [VOC[k] for k in range(21) if not shown[k]] == ["cow"]
    assert 100 * float(ious(confusion)[shown].mean()) == pytest.approx(50.0, abs=0.1)
