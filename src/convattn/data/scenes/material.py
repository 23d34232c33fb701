"""What digit scenes are made of: handwritten digits and photographs, cut into train and test.

Both come with scikit-learn: `load_digits` (1,797 grey 8x8 images of digits written by people) and
`load_sample_images` (two photographs, 427x640). The last 597 digits and the left third of each
photograph belong to the test split alone; the digits are stored in the order of their writers, so
most test digits are also from other hands.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from convattn.core.names import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["CELLS", "GLYPH_STEP", "Material", "Photo", "Split", "material", "source_digest"]

Split = Literal["train", "test"]

CELLS = 8  # side of a source digit
GLYPH_STEP = 4  # glyph samples per source pixel
FIRST_TEST_DIGIT = 1200
TEST_SHARE_OF_PHOTO = 1 / 3


@dataclass(frozen=True)
class Photo:
    """The part of one photograph that belongs to a split.

    `levels[k]` is that part at 1 / 2**k of its size: float32 (H, W, 3) in 0..1. `left` is the
    column of the whole photograph at which the part starts.
    """

    name: str
    left: int
    levels: tuple[Array, ...]


@dataclass(frozen=True)
class Material:
    """One split's glyphs and photographs.

    `glyphs` is float32 (n, 40, 40): each source digit with a margin of one source pixel,
    interpolated smoothly, 0 = paper, 1 = ink. `source[i]` is glyph i's index in `load_digits`,
    `of_class[c]` the glyphs of digit c.
    """

    glyphs: Array
    source: tuple[int, ...]
    of_class: tuple[Array, ...]
    photos: tuple[Photo, ...]


@lru_cache(maxsize=2)
def material(split: Split) -> Material:
    """The material of a split; read once in a process.

    Raises:
        MissingExtraError: scikit-learn or Pillow is not installed.
    """
    datasets = require("sklearn.datasets", "scenes")
    require("PIL.Image", "scenes")
    import numpy as np

    digits = datasets.load_digits()
    every = np.arange(len(digits.target))
    chosen = every[every >= FIRST_TEST_DIGIT] if split == "test" else every[:FIRST_TEST_DIGIT]
    labels = digits.target[chosen]
    pictures = datasets.load_sample_images()
    return Material(
        glyphs=_glyphs(digits.images[chosen] / 16.0),
        source=tuple(int(i) for i in chosen),
        of_class=tuple(np.flatnonzero(labels == c) for c in range(10)),
        photos=tuple(
            _photo(str(name).replace("\\", "/").rsplit("/", 1)[-1], pixels, split)
            for name, pixels in zip(pictures.filenames, pictures.images, strict=True)
        ),
    )


def source_digest() -> str:
    """sha256 of the digits and photographs as scikit-learn hands them out."""
    datasets = require("sklearn.datasets", "scenes")
    digits, pictures = datasets.load_digits(), datasets.load_sample_images()
    digest = hashlib.sha256(digits.images.astype("uint8").tobytes())
    digest.update(digits.target.astype("uint8").tobytes())
    for pixels in pictures.images:
        digest.update(pixels.tobytes())
    return digest.hexdigest()


def _glyphs(images: Array) -> Array:
    """(n, 8, 8) -> float32 (n, 40, 40) by cubic interpolation, with a margin of one pixel."""
    import numpy as np

    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    side = CELLS + 2
    at = (np.arange(side * GLYPH_STEP) + 0.5) / GLYPH_STEP - 0.5
    distance = np.abs(at[:, None] - np.arange(side)[None, :])
    # The Catmull-Rom kernel; samples beyond the margin are paper, so rows need not sum to one.
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    smooth = weights @ padded @ weights.T
    return np.ascontiguousarray(smooth.clip(0, 1), dtype=np.float32)


def _photo(name: str, pixels: Array, split: Split) -> Photo:
    """Cut the split's region first, then shrink it: no level mixes pixels of both splits."""
    import numpy as np

    border = round(pixels.shape[1] * TEST_SHARE_OF_PHOTO)
    left = 0 if split == "test" else border
    part = pixels[:, :border] if split == "test" else pixels[:, border:]
    levels = [np.ascontiguousarray(part, dtype=np.float32) / np.float32(255)]
    for _ in range(2):
        last = levels[-1]
        height, width = last.shape[0] // 2, last.shape[1] // 2
        blocks = last[: height * 2, : width * 2].reshape(height, 2, width, 2, 3)
        levels.append(blocks.mean(axis=(1, 3)))
    return Photo(name, left, tuple(levels))
