"""Images with boxes, masks and label maps stay together, and draws repeat."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from torch import Tensor

from convattn.core.seeds import seeded
from convattn.data.samples import IGNORED, DetectionSample, SegmentationSample
from convattn.tasks.dense_pictures import draw_label_maps, draw_objects
from convattn.tasks.dense_transforms import map_transform, object_transform

AUGMENTS = ["none", "mirror", "light", "flip", "imagenet"]
BOXES = torch.tensor([[4.0, 6, 20, 30], [30, 10, 44, 40], [0, 0, 48, 40]])


def scene() -> DetectionSample:
    """48 x 40: two filled rectangles of their own brightness, and a crowd over all."""
    image = torch.zeros(3, 40, 48, dtype=torch.uint8)
    masks = torch.zeros(3, 40, 48, dtype=torch.bool)
    for k, (x0, y0, x1, y1) in enumerate(BOXES.int().tolist()):
        masks[k, y0:y1, x0:x1] = True
        if k < 2:
            image[:, y0:y1, x0:x1] = 120 + 80 * k
    return DetectionSample(
        image=image,
        boxes=BOXES,
        labels=torch.tensor([3, 5, 1]),
        masks=masks,
        crowd=torch.tensor([False, False, True]),
        difficult=torch.zeros(3, dtype=torch.bool),
        areas=torch.ones(3),
        ids=torch.arange(3),
        image_id=0,
        name="x",
    )


@pytest.mark.parametrize("augment", AUGMENTS)
def test_boxes_and_masks_follow_the_pixels(augment: str) -> None:
    transform = object_transform(augment)
    seen = 0
    for seed in range(12):
        with seeded(seed):
            image, target = transform(scene())
        with seeded(seed):
            again, _ = transform(scene())
        assert torch.equal(image, again)
        assert image.dtype == torch.uint8
        assert 1 not in target["labels"].tolist()  # a crowd is not trained on
        assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"])
        assert target["boxes"].dtype == torch.float32
        for box, label, mask in zip(
            *(target[k] for k in ("boxes", "labels", "masks")), strict=True
        ):
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            torch.testing.assert_close(box, torch.stack(tight).float().flatten(), rtol=0, atol=1)
            if augment != "imagenet":  # there brightness is drawn too
                assert image[0][mask.bool()].unique().tolist() == [120 if label == 3 else 200]
            seen += 1
    assert seen >= 12
    if augment in ("none", "mirror"):
        assert image.shape == (3, 40, 48)


def test_mirroring_alone_leaves_two_pictures() -> None:
    """As R-CNNs are trained; boxes and masks of either picture are the other's, exchanged."""
    transform, sample = object_transform("mirror"), scene()
    assert sample.masks is not None
    seen = set()
    for seed in range(8):
        with seeded(seed):
            image, target = transform(sample)
        mirrored = not torch.equal(image, sample.image)
        seen.add(mirrored)
        masks = sample.masks[:2].flip(2) if mirrored else sample.masks[:2]
        x0, y0, x1, y1 = BOXES[:2].unbind(1)
        boxes = torch.stack([48 - x1, y0, 48 - x0, y1], 1) if mirrored else BOXES[:2]
        assert torch.equal(image, sample.image.flip(2) if mirrored else sample.image)
        assert torch.equal(target["masks"].bool(), masks)
        assert torch.equal(target["boxes"], boxes)
    assert seen == {False, True}


@pytest.mark.parametrize("augment", AUGMENTS)
def test_label_maps_follow_the_pixels(augment: str) -> None:
    transform = map_transform(augment, 32)
    mask = torch.zeros(40, 48, dtype=torch.uint8)
    mask[8:30, 10:40] = 7
    image = torch.where(mask == 7, 200, 20).to(torch.uint8).expand(3, -1, -1).contiguous()
    ignored = 0
    for seed in range(12):
        with seeded(seed):
            found, labels = transform(SegmentationSample(image, mask, "x"))
        assert found.shape == (3, 32, 32)
        assert labels.shape == (32, 32)
        assert set(labels.unique().tolist()) <= {0, 7, IGNORED}
        ignored += int((labels == IGNORED).any())
        if augment != "imagenet":
            # Where the label is sure (all neighbours agree) so is the brightness.
            bright = inside(labels == 7)
            dark = inside(labels == 0)
            assert (found[0][bright] > 150).all()
            assert (found[0][dark] < 70).all()
    scaled = augment not in ("none", "mirror")  # to less than the crop, which reaches beyond
    assert (ignored > 0) == scaled


def inside(chosen: Tensor) -> Tensor:
    """Pixels whose 5 x 5 neighbours are all chosen."""
    far = torch.nn.functional.max_pool2d((~chosen).float()[None, None], 5, 1, 2)[0, 0]
    return far == 0


def test_an_image_without_objects() -> None:
    sample = scene()
    empty = DetectionSample(
        sample.image, BOXES[:0], sample.labels[:0], None, sample.crowd[:0], sample.difficult[:0],
        sample.areas[:0], sample.ids[:0], 0, "x",
    )  # fmt: skip
    for augment in AUGMENTS:
        with seeded(1):
            image, target = object_transform(augment)(empty)
        assert target["boxes"].shape == (0, 4)
        assert image.dim() == 3


def test_pictures() -> None:
    sample = scene()
    assert sample.masks is not None
    found = {
        "boxes": BOXES[:2],
        "labels": torch.tensor([3, 5]),
        "scores": torch.tensor([0.9, 0.1]),
        "masks": sample.masks[:2],
    }
    png = draw_objects([sample], [found], [str(k) for k in range(6)])
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.width == 2 * 320 + 6
    map_sample = SegmentationSample(sample.image, torch.zeros(40, 48, dtype=torch.uint8), "x")
    png = draw_label_maps([map_sample, map_sample], [map_sample.mask, map_sample.mask])
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.width == 3 * 320 + 2 * 6
