"""Accuracy of an ImageNet MobileNetV2 before and right after the insertion of blocks, untrained.

    python benchmarks/insertion_imagenet.py WEIGHTS PHOTOS [--blocks ca,se,...] [--every N]

WEIGHTS: a state dict under torchvision's names, trained with TensorFlow's padding on x / 127.5 - 1.
PHOTOS: a folder with images.tar and labels.csv (columns file and class_index).
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from convattn import authors, create_model, insert, remove

SOURCE = "pytorch/vision:torchvision/models/mobilenetv2.py:mobilenet_v2"


def host(weights: Path) -> nn.Module:
    """MobileNetV2 with these weights, in eval mode."""
    state = torch.load(weights, weights_only=True)
    net = create_model("mobilenet_v2", same_padding=True)
    authors.load_authors(
        net, {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, source=SOURCE
    )
    return net.eval()


def photos(folder: Path, every: int = 1) -> Iterator[tuple[Tensor, int]]:
    """Centre crops, (1, 3, 224, 224), with their class."""
    rows = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))[::every]
    with tarfile.open(folder / "images.tar") as archive:
        members = {m.name.rpartition("/")[2]: m for m in archive.getmembers()}
        for row in rows:
            data = archive.extractfile(members[row["file"]])
            assert data is not None
            image = Image.open(io.BytesIO(data.read())).convert("RGB")
            side = round(min(image.size) * 0.875)
            left, top = ((length - side) // 2 for length in image.size)
            cut = image.crop((left, top, left + side, top + side))
            pixels = np.array(cut.resize((224, 224), Image.Resampling.BILINEAR))
            x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
            yield x, int(row["class_index"])


def logits(net: nn.Module, images: Iterable[Tensor]) -> Tensor:
    """(N, 1000), one image at a time."""
    with torch.inference_mode():
        return torch.cat([net(x) for x in images])


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--blocks", default="ca,se,cbam,eca,gc,triplet")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    pairs = list(photos(options.photos, options.every))
    images, labels = [x for x, _ in pairs], torch.tensor([label for _, label in pairs])
    net = host(options.weights)
    before = logits(net, images)

    def top1(found: Tensor) -> str:
        return f"{100 * (found.argmax(1) == labels).double().mean():.1f} %"

    print(f"{len(images)} photos, without a block {top1(before)}")
    print("| block | naive | identity | largest change of a logit with identity |")
    for block in options.blocks.split(","):
        found = {}
        for init in ("authors", "identity"):
            torch.manual_seed(0)
            insert(net, block, at="after_depthwise", init=init).eval()
            found[init] = logits(net, images)
            remove(net)
        change = float((found["identity"] - before).abs().max())
        cells = (top1(found["authors"]), top1(found["identity"]), f"{change:.1g}")
        print(f"| {block} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
