"""Image files: the right pixels, or one error with path and cause. Never anything else."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convattn.core.errors import DataError
from convattn.data.images import read_image, shown


@pytest.fixture
def pixels() -> torch.Tensor:
    """A picture without symmetry: uint8 (3, 5, 7)."""
    return torch.arange(105, dtype=torch.uint8).mul(2).view(5, 7, 3).permute(2, 0, 1).contiguous()


def pillow(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tiff", "webp"])
@pytest.mark.parametrize("named", ["as it is", "jpg"])
def test_lossless_formats_are_exact_whatever_their_name(
    tmp_path: Path, pixels: torch.Tensor, suffix: str, named: str
) -> None:
    path = tmp_path / f"x.{suffix if named == 'as it is' else named}"
    options = {"lossless": True} if suffix == "webp" else {}
    pillow(pixels).save(path, format=suffix, **options)
    assert torch.equal(read_image(path), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(
    tmp_path: Path, pixels: torch.Tensor, orientation: int
) -> None:
    # What a viewer shows, by the EXIF standard: where row 0 and column 0 of the stored picture go.
    seen = {
        1: pixels,
        2: pixels.flip(2),
        3: pixels.flip(1, 2),
        4: pixels.flip(1),
        5: pixels.transpose(1, 2),
        6: pixels.transpose(1, 2).flip(2),
        7: pixels.transpose(1, 2).flip(1, 2),
        8: pixels.transpose(1, 2).flip(1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    pillow(pixels).save(tmp_path / "x.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "x.png"), seen)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow says so, and goes on
def test_damaged_exif_leaves_the_pixels_as_stored(tmp_path: Path, pixels: torch.Tensor) -> None:
    pillow(pixels).save(tmp_path / "sound.jpg", quality=95)
    pillow(pixels).save(tmp_path / "x.jpg", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert torch.equal(read_image(tmp_path / "x.jpg"), read_image(tmp_path / "sound.jpg"))


def test_grey_bilevel_and_palette(tmp_path: Path, pixels: torch.Tensor) -> None:
    grey = pixels[0]
    Image.fromarray(grey.numpy()).save(tmp_path / "grey.png")
    assert torch.equal(read_image(tmp_path / "grey.png"), grey.expand(3, -1, -1))
    Image.fromarray((grey > 99).numpy()).save(tmp_path / "bits.png")
    assert torch.equal(
        read_image(tmp_path / "bits.png"), (grey > 99).expand(3, -1, -1).to(torch.uint8) * 255
    )
    colours = torch.tensor([[9, 8, 7], [200, 100, 50], [1, 2, 255]], dtype=torch.uint8)
    index = (grey % 3).contiguous()
    palette = Image.fromarray(index.numpy(), "L").convert("P")
    palette.putpalette(colours.flatten().tolist())
    palette.save(tmp_path / "palette.png")
    assert torch.equal(read_image(tmp_path / "palette.png"), colours[index.long()].permute(2, 0, 1))


def test_transparency_is_laid_on_white(tmp_path: Path, pixels: torch.Tensor) -> None:
    layer = pillow(pixels).convert("RGBA")
    alpha = torch.zeros(5, 7, dtype=torch.uint8)
    alpha[:, :3] = 255
    layer.putalpha(Image.fromarray(alpha.numpy()))
    layer.save(tmp_path / "x.png")
    expected = pixels.clone()
    expected[:, :, 3:] = 255
    assert torch.equal(read_image(tmp_path / "x.png"), expected)
    # a palette with one transparent colour, hidden red behind it
    index = torch.zeros(4, 4, dtype=torch.uint8)
    index[:2] = 1
    palette = Image.fromarray(index.numpy(), "L").convert("P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "p.png", transparency=bytes([0, 255]))
    read = read_image(tmp_path / "p.png")
    assert read[:, 0, 0].tolist() == [0, 0, 255]
    assert read[:, 3, 0].tolist() == [255, 255, 255]


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    deep = (np.arange(35).reshape(5, 7) * 1900).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    expected = torch.from_numpy(np.round(deep / 257).astype(np.uint8)).expand(3, -1, -1)
    assert torch.equal(read_image(tmp_path / "deep.png"), expected)
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "deep.tiff")
    assert torch.equal(read_image(tmp_path / "deep.tiff"), expected)
    Image.fromarray(deep.astype(np.int32) * 99).save(tmp_path / "large.tiff")
    with pytest.raises(DataError, match=r"large\.tiff: whole-number grey from 0 to 63"):
        read_image(tmp_path / "large.tiff")
    share = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    Image.fromarray(share).save(tmp_path / "share.tiff")
    error = read_image(tmp_path / "share.tiff")[0].float() - torch.from_numpy(share) * 255
    assert float(error.abs().max()) <= 1
    Image.fromarray(share * 300).save(tmp_path / "wild.tiff")
    with pytest.raises(DataError, match=r"wild\.tiff: floating-point grey"):
        read_image(tmp_path / "wild.tiff")


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    colours = {"red": (255, 0, 0), "white": (255, 255, 255), "blue": (0, 0, 255)}
    for name, rgb in colours.items():
        Image.new("RGB", (16, 16), rgb).convert("CMYK").save(tmp_path / f"{name}.jpg", quality=100)
        read = read_image(tmp_path / f"{name}.jpg").float().mean((1, 2))
        assert float((read - torch.tensor(rgb)).abs().max()) < 4


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("#ff0000", "#00ff00", "#0000ff")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "x.gif")[:, 0, 0].tolist() == [255, 0, 0]


def test_extreme_sizes(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png").flatten().tolist() == [1, 2, 3]
    Image.new("RGB", (30_000, 2)).save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png").shape == (3, 2, 30_000)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "tiff", "gif"])
def test_a_truncated_file_is_an_error_or_whole(tmp_path: Path, kind: str) -> None:
    noise = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    stream = io.BytesIO()
    pillow(noise.to(torch.uint8)).save(stream, kind)
    whole = stream.getvalue()
    (tmp_path / "whole").write_bytes(whole)
    expected = read_image(tmp_path / "whole")
    for tenth in range(10):
        path = tmp_path / f"cut_{tenth}.{kind}"
        path.write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(DataError) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert len(str(caught.value)) > len(f"{path}: ") + 5
    for missing in (1, 2, 3):
        path = tmp_path / f"end_{missing}.{kind}"
        path.write_bytes(whole[:-missing])
        try:
            read = read_image(path)
        except DataError:
            continue
        assert torch.equal(read, expected)


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("side", [10_000, 30_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused(tmp_path: Path, side: int) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(bomb(side, side))
    with pytest.raises(DataError, match=r"x\.png: .*pixels; refused as a decompression bomb"):
        read_image(path)


def test_what_is_no_image_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("this is not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, cause in {
        "text.jpg": "not an image that Pillow can read",
        "empty.jpg": "the file is empty (0 bytes)",
        "folder.jpg": "a directory, not an image file",
        "link.jpg": f"dangling link to {tmp_path}/gone.jpg",
        "pipe.jpg": "not a regular file, not an image file",
        "missing.jpg": "the file does not exist",
    }.items():
        with pytest.raises(DataError) as caught:
            read_image(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {cause}"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_no_permission(tmp_path: Path, pixels: torch.Tensor) -> None:
    pillow(pixels).save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(DataError, match=r"x\.png: no permission to read it"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("name", [b"two\nlines.png", b"\xff\xfe caf\xe9.png", "é漢字.png".encode()])
def test_strange_names(tmp_path: Path, pixels: torch.Tensor, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        with open(path, "wb") as file:
            pillow(pixels).save(file, "png")
    except OSError:
        pytest.skip("this file system does not accept the name")
    assert torch.equal(read_image(os.fsdecode(path)), pixels)
    with open(path, "wb"):
        pass
    with pytest.raises(DataError) as caught:
        read_image(os.fsdecode(path))
    assert str(caught.value).encode("utf-8").count(b"\n") == 0
    assert shown(os.fsdecode(path)).encode("utf-8").isascii() or "é漢字" in str(caught.value)
