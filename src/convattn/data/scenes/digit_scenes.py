"""Digit scenes: the embedded data. Real handwritten digits in clutter on real photographs.

Scene i is a pure function of (seed, split, i, options): it does not matter in which order, by
which process or beside how many others it is drawn. One scene serves classification (which digit),
detection (boxes) and segmentation (masks).
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convattn.core.errors import ArgumentError
from convattn.data.scenes import composing, painting
from convattn.data.scenes.material import Split, material, source_digest

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["SCENES_VERSION", "DigitScenes", "Scene", "scenes_fingerprint"]

SCENES_VERSION = 1  # raised whenever the same seed would draw other pixels
_SPLIT_KEY = {"train": 0, "test": 1}
CONTRAST = (0.38, 0.6)
LIGHTER = 0.5
DIM = (1, 1)
PIECE = (0.1, 0.9)
_LABEL_STREAM, _SCENE_STREAM = 0, 1


@dataclass(frozen=True)
class Scene:
    """One scene of side S with K digits; digit 0 is the largest and gives the class.

    Attributes:
        image: uint8 (3, S, S), RGB.
        label: The class: the digit that is drawn tallest.
        boxes: float32 (K, 4), x0 y0 x1 y1 in pixels (edges: a whole picture is 0 0 S S), tight
            round the visible part of each digit.
        labels: int64 (K,), the digits.
        masks: bool (K, S, S), the visible pixels of each digit; no pixel is in two masks.
        sources: For each digit, its index in scikit-learn's `load_digits`.
        fragments: The same for the cut-up digits in the clutter.
        photo: Name of the photograph behind the digits.
        photo_box: The part of it that was used, (x0, y0, x1, y1) in its pixels.
    """

    image: Tensor
    label: int
    boxes: Tensor
    labels: Tensor
    masks: Tensor
    sources: tuple[int, ...]
    fragments: tuple[int, ...]
    photo: str
    photo_box: tuple[int, int, int, int]


class DigitScenes:
    """`count` digit scenes of one split; classes are balanced to within one scene.

    Scenes are drawn when first asked for; their images are kept (`count * 3 * size**2` bytes).

    Args:
        split: "train" or "test". They share no source digit and no region of a photograph.
        count: Number of scenes.
        size: Side S of a scene in pixels, 24 to 1024.
        seed: 0 to 2**63 - 1.
        digits: Fewest and most digits in a scene, between 1 and 9.
        height: Shortest and tallest digit as fractions of the side. With K digits in a scene the
            tallest is drawn at 1 / sqrt(K) of this and the others smaller still.
        turn: Digits are turned by at most this many degrees, 0 to 45.
        clutter: Fewest and most clutter pieces (strokes, blobs, fragments of digits).

    Raises:
        ArgumentError: An argument is out of its range.
        MissingExtraError: scikit-learn is not installed (extra `scenes`).
    """

    def __init__(
        self,
        split: Split,
        count: int,
        size: int = 64,
        seed: int = 0,
        digits: tuple[int, int] = (1, 1),
        *,
        height: tuple[float, float] = (0.48, 0.7),
        turn: float = 15.0,
        clutter: tuple[int, int] = (3, 7),
    ) -> None:
        if split not in _SPLIT_KEY:
            raise ArgumentError(f"split must be 'train' or 'test', got {split!r}.")
        self.split: Split = split
        self.count = _whole("count", count, 1, 10_000_000)
        self.size = _whole("size", size, 24, 1024)
        self.seed = _whole("seed", seed, 0, 2**63 - 1)
        self.digits = (_whole("digits[0]", digits[0], 1, 9), _whole("digits[1]", digits[1], 1, 9))
        self.clutter = (
            _whole("clutter[0]", clutter[0], 0, 64),
            _whole("clutter[1]", clutter[1], 0, 64),
        )
        self.height = (float(height[0]), float(height[1]))
        self.turn = float(turn)
        for name, (low, high) in (("digits", self.digits), ("clutter", self.clutter)):
            if low > high:
                raise ArgumentError(f"{name} must be (fewest, most), got ({low}, {high}).")
        if not 0.2 <= self.height[0] <= self.height[1] <= 0.8:
            raise ArgumentError(
                f"height must be (shortest, tallest) with 0.2 <= shortest <= tallest <= 0.8 "
                f"of the side, got {self.height}."
            )
        if not 0 <= self.turn <= 45:
            raise ArgumentError(f"turn must be 0 to 45 degrees, got {turn}.")
        self._stock = material(split)
        self.labels = self._labels()
        self._images: Tensor | None = None
        self._drawn = torch.zeros(self.count, dtype=torch.bool)

    def __len__(self) -> int:
        return self.count

    def sample_id(self, index: int) -> str:
        """The scene's name, for messages: 'scenes/train/17'."""
        return f"scenes/{self.split}/{index}"

    def image_file(self, index: int) -> None:
        """None: scenes are drawn."""

    def image(self, index: int) -> Tensor:
        """The pixels of scene `index`: uint8 (3, S, S), kept after the first call.

        A view of the cache: copy before changing it in place.
        """
        self._check(index)
        if self._images is None:
            self._images = torch.empty(self.count, 3, self.size, self.size, dtype=torch.uint8)
        if not self._drawn[index]:
            self._images[index] = self.scene(index).image
            self._drawn[index] = True
        return self._images[index]

    def images(self) -> Tensor:
        """All scenes at once: uint8 (count, 3, S, S). A view of the cache, as `image`."""
        for index in range(self.count):
            self.image(index)
        assert self._images is not None
        return self._images

    def options(self) -> dict[str, object]:
        """What, beside split, count and index, decides the pixels."""
        names = ("size", "seed", "digits", "height", "turn", "clutter")
        return {name: getattr(self, name) for name in names}

    def scene(self, index: int) -> Scene:
        """Draw scene `index` whole: image, boxes, masks and where everything came from."""
        import numpy as np

        self._check(index)
        stock = self._stock
        rng = self._generator(_SCENE_STREAM, index)
        photo = stock.photos[int(rng.integers(len(stock.photos)))]
        canvas, photo_box = painting.backdrop(rng, photo, self.size)
        composing.dusk(rng, canvas)
        pieces = int(rng.integers(self.clutter[0], self.clutter[1] + 1))
        fragments = composing.clutter(rng, canvas, stock, pieces, self.height)

        classes = [int(self.labels[index])]
        count = int(rng.integers(self.digits[0], self.digits[1] + 1))
        classes += [int(c) for c in rng.integers(0, 10, count - 1)]
        glyphs = [int(rng.choice(stock.of_class[c])) for c in classes]
        shapes = composing.digit_shapes(rng, stock, glyphs, self.size, self.height, self.turn)
        corners = composing.place(rng, shapes, self.size)
        masks = np.zeros((count, self.size, self.size), dtype=bool)
        # The largest is painted last and so is never hidden.
        for k in reversed(range(count)):
            (top, left), shape = corners[k], shapes[k]
            area = (slice(top, top + shape.shape[0]), slice(left, left + shape.shape[1]))
            masks[(slice(None), *area)] &= shape <= 0.5
            masks[(k, *area)] = shape > 0.5
            painting.paint(canvas, shape, top, left, composing.ink(rng, canvas[area]))
        image = painting.expose(rng, canvas)
        boxes = torch.tensor([composing.box(mask) for mask in masks], dtype=torch.float32)
        return Scene(
            image=torch.from_numpy(image),
            label=classes[0],
            boxes=boxes,
            labels=torch.tensor(classes),
            masks=torch.from_numpy(masks),
            sources=tuple(stock.source[g] for g in glyphs),
            fragments=fragments,
            photo=photo.name,
            photo_box=photo_box,
        )

    def _labels(self) -> Tensor:
        """Each ten consecutive scenes hold each digit once, in a random order."""
        tens = range(math.ceil(self.count / 10))
        orders = [self._generator(_LABEL_STREAM, ten).permutation(10) for ten in tens]
        return torch.tensor([int(c) for order in orders for c in order][: self.count])

    def _generator(self, stream: int, index: int) -> Generator:
        import numpy as np

        key = (stream, _SPLIT_KEY[self.split], index)
        return np.random.Generator(
            np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=key))
        )

    def _check(self, index: int) -> None:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}: must be 0 to {self.count - 1}.")


def scenes_fingerprint(train: DigitScenes, test: DigitScenes) -> str:
    """sha256 of everything that decides the pixels of both sets."""
    facts = [SCENES_VERSION, source_digest(), train.options(), len(train), len(test)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _whole(name: str, value: object, low: int, high: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(f"{name} must be a whole number, got {value!r}.") from None
    if not low <= number <= high:
        raise ArgumentError(f"{name} must be {low} to {high}, got {number}.")
    return number
