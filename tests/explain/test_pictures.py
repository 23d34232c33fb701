"""Colours are even to the eye by CIE lightness; overlays and the grid show what they are given."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
import torch
from matplotlib import font_manager
from torch import Tensor

from convattn.core.errors import ArgumentError, InputError
from convattn.core.fonts import families
from convattn.explain import GateMap, choose_columns, heat_colours, overlay, picture_grid


def lightness(rgb: Tensor) -> Tensor:
    """CIE L* (0 to 100) of uint8 sRGB (..., 3), IEC 61966-2-1 and CIE 1976."""
    s = rgb.double() / 255
    linear = torch.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    y = linear @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)
    return torch.where(y > (6 / 29) ** 3, 116 * y ** (1 / 3) - 16, y * (29 / 3) ** 3)


def test_colours_rise_evenly_in_lightness() -> None:
    colours = heat_colours()
    assert colours.shape == (256, 3)
    assert colours.dtype == torch.uint8
    light = lightness(colours)
    assert light[0] < 15
    assert light[-1] > 92
    steps = light[8:].sub(light[:-8])  # over 8 colours, so that 8 bits do not show
    assert (steps > 0).all()
    assert (steps / steps.mean()).sub(1).abs().max() < 0.35


GREY = torch.full((3, 8, 12), 100, dtype=torch.uint8)


def test_overlay_shows_the_highest_value_lightest() -> None:
    ramp = torch.linspace(0.2, 0.8, 12).expand(8, 12)
    picture = overlay(GREY, ramp)
    assert picture.shape == (8, 12, 3)
    assert picture.dtype == torch.uint8
    assert (lightness(picture).diff(dim=1) > 0).all()
    only = overlay(GREY, ramp, strength=1.0)
    assert torch.equal(only[:, 0], heat_colours()[0].expand(8, 3))
    assert torch.equal(only[:, -1], heat_colours()[-1].expand(8, 3))


def test_overlay_brings_the_map_to_the_image() -> None:
    corner = torch.zeros(2, 3)
    corner[0, 2] = 1  # top right
    light = lightness(overlay(GREY, corner))
    assert light[0, -1] == light.max()
    assert light[-1, 0] == light.min()


def test_overlay_without_heat_is_the_image_in_grey() -> None:
    picture = overlay(GREY, torch.rand(2, 2), strength=0.0)
    assert torch.equal(picture, torch.full((8, 12, 3), 100, dtype=torch.uint8))


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_a_level_map_shows_no_rounding(noise: float) -> None:
    level = 0.25 + noise * torch.rand(4, 4)
    assert torch.equal(overlay(GREY, level, strength=1.0), heat_colours()[128].expand(8, 12, 3))


def test_limits_make_maps_comparable() -> None:
    low, high = torch.full((2, 2), 0.25), torch.full((2, 2), 0.75)
    pictures = [overlay(GREY, m, limits=(0.0, 1.0)) for m in (low, high)]
    assert lightness(pictures[0]).max() < lightness(pictures[1]).min()


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"image": torch.rand(3, 8, 8)}, InputError),
        ({"image": GREY[0]}, InputError),
        ({"map": torch.rand(3, 8, 8)}, InputError),
        ({"map": GREY[0]}, InputError),
        ({"strength": 1.5}, ArgumentError),
        ({"limits": (1.0, 0.0)}, ArgumentError),
        ({"map": torch.full((2, 2), torch.nan)}, ArgumentError),
    ],
)
def test_overlay_refuses(changed: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        overlay(**({"image": GREY, "map": torch.rand(2, 2)} | changed))


def maps(count: int) -> list[GateMap]:
    return [
        GateMap(f"blocks.{i}.after_depthwise", "ca", (), torch.rand(2, 4, 6)) for i in range(count)
    ]


def test_columns_are_spread_over_the_depth() -> None:
    titles = list(choose_columns(maps(16), 4))
    assert [t.split("\n")[0] for t in titles] == ["blocks.0", "blocks.5", "blocks.10", "blocks.15"]
    assert titles[0] == "blocks.0\nafter_depthwise\n4 × 6"
    assert len(choose_columns(maps(2), 4)) == 2
    assert list(choose_columns(maps(3), 1)) == ["blocks.2\nafter_depthwise\n4 × 6"]
    assert choose_columns([], 4) == {}


def decoded(png: bytes) -> Tensor:
    """(H, W, 4) of a PNG, by Pillow."""
    import numpy as np
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(io.BytesIO(png)).convert("RGBA")))


def test_grid_holds_images_and_maps_on_a_white_card() -> None:
    red, blue = (torch.zeros(3, 16, 16, dtype=torch.uint8) for _ in range(2))
    red[0], blue[2] = 255, 255
    columns = {"a": torch.rand(2, 4, 4), "level": torch.full((2, 1, 1), 0.5)}
    labels = [("3", "3"), ("7", "1")]
    png = picture_grid(torch.stack([red, blue]), columns, labels=labels)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    pixels = decoded(png)
    assert pixels.shape == (height, width, 4)
    assert (pixels[0] == 255).all()
    cell = (1.28 * 160) ** 2
    for colour in ([255, 0, 0, 255], [0, 0, 255, 255]):
        share = (pixels == torch.tensor(colour)).all(2).sum().item() / cell
        assert 0.97 < share < 1.03  # the input, once
    clear = decoded(picture_grid(torch.stack([red, blue]), columns, transparent=True))
    assert (clear[0, :, 3] == 0).all()
    assert clear.shape[1] < width  # no labels


def test_any_letters_are_drawn_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """By installed fonts behind matplotlib's own; warnings would be errors here."""
    images, columns = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), {"a": torch.rand(1, 4, 4)}
    assert picture_grid(images, columns, labels=[("猫", "$$")])[:4] == b"\x89PNG"
    have = ["Comic Sans", "Noto Sans CJK JP", "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "get_font_names", lambda: have)
    assert families() == ["sans-serif", "Noto Sans CJK JP"]


def test_a_grid_drawn_again_is_the_same_file() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    columns = choose_columns(maps(3))
    assert picture_grid(images, columns, dpi=60) == picture_grid(images, columns, dpi=60)


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"images": torch.rand(2, 3, 8, 8)}, InputError, "uint8"),
        ({"images": GREY}, InputError, r"\(N, 3, H, W\)"),
        ({"columns": {}}, ArgumentError, "choose_columns"),
        ({"columns": {"a": torch.rand(3, 4, 4)}}, InputError, "one map per image"),
        ({"labels": [("1", "2")]}, ArgumentError, "as many labels"),
    ],
)
def test_grid_refuses(changed: dict[str, Any], error: type[Exception], match: str) -> None:
    arguments: dict[str, Any] = {
        "images": torch.stack([GREY, GREY]),
        "columns": {"a": torch.rand(2, 4, 4)},
    }
    with pytest.raises(error, match=match):
        picture_grid(**(arguments | changed))
