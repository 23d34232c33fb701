"""The brushes of digit scenes: plain NumPy on float32 canvases (S, S, 3) in 0..1.

A shape is an opacity patch, float32 (h, w) in 0..1; `paint` lays it onto the canvas. Nothing here
knows of splits, labels or seeds: the random numbers come from the caller's generator.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from convattn.data.scenes.material import CELLS, GLYPH_STEP, Photo

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = [
    "backdrop",
    "blob",
    "colour_of",
    "dim",
    "expose",
    "fragment",
    "glyph_shape",
    "luminance",
    "paint",
    "stroke",
    "trim",
]

LUMA = (0.299, 0.587, 0.114)
INK_LEVEL = 0.45  # where a stroke's edge lies between paper (0) and ink (1)


def backdrop(rng: Generator, photo: Photo, size: int) -> tuple[Array, tuple[int, int, int, int]]:
    """A random square of a photograph, float32 (size, size, 3), and its box in the photograph.

    The box is (x0, y0, x1, y1) in pixels of the whole photograph, x1 and y1 exclusive.
    """
    import numpy as np

    height, width = photo.levels[0].shape[:2]
    side = int(rng.integers(min(height, width) // 4, min(height, width) + 1))
    top = int(rng.integers(0, height - side + 1))
    left = int(rng.integers(0, width - side + 1))
    # The level with at most two source pixels for one of ours: bilinear reading then suffices.
    level = min(len(photo.levels) - 1, max(0, math.ceil(math.log2(side / (2 * size)))))
    source, shrink = photo.levels[level], 2**level
    at = (np.arange(size, dtype=np.float32) + 0.5) * (side / size)
    ys, xs = (top + at) / shrink - 0.5, (left + at) / shrink - 0.5
    if rng.random() < 0.5:
        xs = xs[::-1]
    y0, fy = _floor(ys, source.shape[0])
    x0, fx = _floor(xs, source.shape[1])
    rows = source[y0] * (1 - fy)[:, None, None] + source[y0 + 1] * fy[:, None, None]
    canvas = rows.take(x0, axis=1) * (1 - fx)[:, None] + rows.take(x0 + 1, axis=1) * fx[:, None]
    return canvas, (photo.left + left, top, photo.left + left + side, top + side)


def _floor(at: Array, limit: int) -> tuple[Array, Array]:
    """Neighbour index and fraction of bilinear reading, kept within 0..limit-1."""
    import numpy as np

    at = np.minimum(np.maximum(at, 0), np.float32(limit - 1.001))
    index = at.astype(np.intp)
    return index, (at - index).astype(np.float32)


def glyph_shape(glyph: Array, height: float, angle: float, shift: tuple[float, float]) -> Array:
    """A glyph, or a piece of one, at `height` pixels for a whole digit: opacity (p, p).

    It is turned by `angle` radians; `shift` moves it by fractions of a pixel (x, y).
    """
    import numpy as np

    cell = height / CELLS  # pixels for one source pixel
    half = cell * glyph.shape[0] / GLYPH_STEP / 2
    reach = math.ceil(half * (abs(math.cos(angle)) + abs(math.sin(angle))))
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    scale = GLYPH_STEP / cell
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    middle = (glyph.shape[0] - 1) / 2
    dx, dy = axis + np.float32(shift[0]), axis + np.float32(shift[1])
    ys = dy[:, None] * np.float32(cos) - dx[None, :] * np.float32(sin) + np.float32(middle)
    xs = dy[:, None] * np.float32(sin) + dx[None, :] * np.float32(cos) + np.float32(middle)
    # The glyph's margin is paper: reading outside it gives the margin's zeros.
    y0, fy = _floor(ys, glyph.shape[0])
    x0, fx = _floor(xs, glyph.shape[1])
    flat, corner = glyph.ravel(), y0 * glyph.shape[1] + x0
    upper = flat[corner] * (1 - fx) + flat[corner + 1] * fx
    corner += glyph.shape[1]
    lower = flat[corner] * (1 - fx) + flat[corner + 1] * fx
    ink = upper + (lower - upper) * fy
    # The factor makes the edge about one pixel of the picture wide at any size.
    return _opacity((ink - np.float32(INK_LEVEL)) * np.float32(1.3 * cell) + np.float32(0.5))


def _opacity(shape: Array) -> Array:
    """Cut to 0..1. Twice as fast as np.clip on patches this small."""
    import numpy as np

    return np.minimum(np.maximum(shape, 0), 1)


def trim(shape: Array) -> Array:
    """The shape without its empty rows and columns."""
    import numpy as np

    seen = shape > 0.02
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return shape[:0, :0]
    return shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def stroke(rng: Generator, size: int) -> Array:
    """A short pen stroke of two joined pieces."""
    import numpy as np

    reach = max(3, int(size * rng.uniform(0.1, 0.22)))
    axis = np.arange(2 * reach, dtype=np.float32)
    points = rng.uniform(0.1 * reach, 1.9 * reach, (3, 2)).astype(np.float32)
    start, way = points[:2, :, None, None], np.diff(points, axis=0)[:, :, None, None]
    dy, dx = axis[:, None] - start[:, 0], axis[None, :] - start[:, 1]  # (2, n, 1), (2, 1, n)
    way_y, way_x = way[:, 0], way[:, 1]
    part = _opacity((dy * way_y + dx * way_x) / (way_y**2 + way_x**2 + np.float32(1e-6)))
    gap = np.hypot(dy - part * way_y, dx - part * way_x).min(axis=0)
    return _opacity(np.float32(size * rng.uniform(0.012, 0.035) + 0.5) - gap)


def fragment(rng: Generator, glyph: Array, height: float) -> Array:
    """A turned piece of a glyph, under half as tall and wide: no longer a digit."""
    import numpy as np

    side = int(rng.integers(3 * GLYPH_STEP, 4 * GLYPH_STEP + 1))
    top, left = rng.integers(GLYPH_STEP, glyph.shape[0] - GLYPH_STEP - side + 1, 2)
    piece = np.rot90(glyph[top : top + side, left : left + side], int(rng.integers(4)))
    return glyph_shape(np.ascontiguousarray(piece), height, rng.uniform(-0.3, 0.3), (0, 0))


def blob(rng: Generator, size: int) -> Array:
    """A soft ellipse."""
    import numpy as np

    radii = (size * rng.uniform(0.03, 0.14, 2)).astype(np.float32)
    reach = int(max(radii)) + 2
    angle = rng.uniform(0, math.pi)
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    cos, sin = math.cos(angle), math.sin(angle)
    u = (axis[:, None] * cos + axis[None, :] * sin) / radii[0]
    v = (axis[None, :] * cos - axis[:, None] * sin) / radii[1]
    return _opacity((1 - np.hypot(u, v)) * min(radii) + 0.5)


def luminance(pixels: Array) -> float:
    """Mean brightness of (h, w, 3) pixels, 0..1."""
    import numpy as np

    luma = np.array(LUMA, dtype=np.float32)
    return float(np.einsum("hwc,c->", pixels, luma)) / (pixels.shape[0] * pixels.shape[1])


def colour_of(rng: Generator, light: float, strength: float) -> Array:
    """A random hue whose luminance is `light` exactly: float32 (3,) in 0..1."""
    import numpy as np

    hue = (rng.random(3) * 2 - 1).tolist()
    grey = sum(h * w for h, w in zip(hue, LUMA, strict=True))
    hue = [h - grey for h in hue]
    # As colourful as asked, or as the brightness allows: clipping would change the luminance.
    room = min((1 - light) / max(*hue, 1e-6), light / max(*(-h for h in hue), 1e-6), strength)
    return np.array([light + h * room for h in hue], dtype=np.float32)


def dim(canvas: Array, flatter: float, darker: float) -> None:
    """Move each pixel towards the mean colour by `flatter`, then scale by `darker`, in place."""
    import numpy as np

    size = canvas.shape[0]
    mean = np.full(size * size, 1 / size**2, dtype=np.float32) @ canvas.reshape(-1, 3)
    canvas *= np.float32((1 - flatter) * darker)
    canvas += mean * np.float32(flatter * darker)


def expose(rng: Generator, canvas: Array) -> Array:
    """Uneven light and sensor noise, then 8 bits: uint8 (3, S, S)."""
    import numpy as np

    size = canvas.shape[0]
    slope = np.linspace(-255, 255, size, dtype=np.float32)
    down, across = rng.uniform(-0.1, 0.1, 2).astype(np.float32)
    light = 255 + slope[:, None] * down + slope[None, :] * across
    noise = (rng.random((size, size), dtype=np.float32) - np.float32(0.5)) * np.float32(15)
    # Planes first: 3 long rows of arithmetic are faster than S*S short ones.
    pixels = np.ascontiguousarray(canvas.transpose(2, 0, 1)) * light + (noise + np.float32(0.5))
    return np.minimum(np.maximum(pixels, 0), 255).astype(np.uint8)


def paint(canvas: Array, shape: Array, top: int, left: int, colour: Array) -> None:
    """Lay a shape onto the canvas, in place; what falls outside is cut off."""
    height, width = canvas.shape[:2]
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + shape.shape[0], height), min(left + shape.shape[1], width)
    if y0 >= y1 or x0 >= x1:
        return
    opacity = shape[y0 - top : y1 - top, x0 - left : x1 - left, None]
    part = canvas[y0:y1, x0:x1]
    part += (colour - part) * opacity
