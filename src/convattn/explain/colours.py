"""A perceptually even scale of colours for heat maps, from dark violet over red to light yellow.

Made, not tabulated: equal steps of lightness in OKLab (Ottosson 2020) while the hue turns from
violet over red to yellow; chroma rises and falls once and stays inside sRGB. Lightness alone
carries the order, so the scale also reads in grey and with any colour vision.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

__all__ = ["heat_colours"]

_STEPS = 256
_LIGHTNESS = (0.20, 0.96)
_HUE = (290.0, 465.0)  # degrees; 465 is 105 one turn on
_CHROMA = 0.19

# OKLab -> cube roots of cone responses; their cubes -> linear sRGB
_TO_CONES = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)

_Colour = tuple[float, ...]


@cache
def heat_colours() -> Tensor:
    """The scale: uint8 (256, 3) sRGB, from the lowest value to the highest."""
    rows = []
    for i in range(_STEPS):
        t = i / (_STEPS - 1)
        lightness = _LIGHTNESS[0] + t * (_LIGHTNESS[1] - _LIGHTNESS[0])
        hue = math.radians(_HUE[0] + t * (_HUE[1] - _HUE[0]))
        linear = _inside(lightness, _CHROMA * (0.35 + 0.65 * math.sin(math.pi * t)), hue)
        rows.append([round(255 * _encode(value)) for value in linear])
    return torch.tensor(rows, dtype=torch.uint8)


def _inside(lightness: float, chroma: float, hue: float) -> _Colour:
    """Linear sRGB of the colour, with the chroma lowered until it is a colour of sRGB."""
    while True:
        linear = _linear(lightness, chroma, hue)
        if chroma == 0 or all(0 <= value <= 1 for value in linear):
            return tuple(min(max(value, 0.0), 1.0) for value in linear)
        chroma = max(chroma - 0.001, 0.0)


def _linear(lightness: float, chroma: float, hue: float) -> _Colour:
    lab = (lightness, chroma * math.cos(hue), chroma * math.sin(hue))
    return _times(_TO_RGB, tuple(value**3 for value in _times(_TO_CONES, lab)))


def _times(matrix: tuple[_Colour, ...], vector: _Colour) -> _Colour:
    return tuple(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _encode(linear: float) -> float:
    """The sRGB transfer curve."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
