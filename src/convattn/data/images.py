"""Reading one image file: Pillow decodes, this file decides what its pixels mean and says why not.

Never another image's pixels: a file gives its own picture or a `DataError` with path and cause.
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor

from convattn.core.errors import DataError
from convattn.core.names import require

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "cause_of",
    "decode_image",
    "decode_labels",
    "read_bytes",
    "read_image",
    "shown",
]

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".tif", ".tiff",
)  # fmt: skip
MAX_PIXELS = 89_478_485  # Pillow's own limit, a quarter of a gigabyte of RGB
_ORIENTATION = 0x0112  # the EXIF tag
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def shown(path: str | os.PathLike[str]) -> str:
    r"""A path that can be printed: line breaks, control and undecodable bytes as \n, \xff."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """An image file as it is meant to be seen: uint8 (3, H, W), RGB.

    The EXIF orientation is applied; transparency is laid on white; grey, palette and CMYK pictures
    become RGB; 16-bit grey is scaled to 8 bits; of an animation the first frame counts. The format
    is told by the content, not by the name.

    Raises:
        DataError: The file is missing, no image, damaged, or larger than `MAX_PIXELS`; the message
            holds path and cause.
        MissingExtraError: Pillow is not installed.
    """
    require("PIL.Image", "train")
    try:
        _check_file(path)
        with open(path, "rb") as file:
            return _pixels(file)
    except Exception as error:  # Pillow's decoders raise a dozen types; each means "unreadable"
        raise DataError(f"{shown(path)}: {cause_of(error, path)}") from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """A file's content; a `DataError` or `OSError` if it is empty or not a regular file."""
    _check_file(path)
    with open(path, "rb") as file:
        return file.read()


def decode_image(data: bytes, name: str, size: tuple[int, int] | None = None) -> Tensor:
    """As `read_image`, from a file's content.

    Args:
        data: The content.
        name: For the message.
        size: (height, width) that annotations were made for. Whether the EXIF orientation is
            applied follows from it: tools differ in which of the two pictures they annotate.

    Raises:
        DataError: As `read_image`, or neither picture has this size.
    """
    require("PIL.Image", "train")
    try:
        return _pixels(io.BytesIO(data), size)
    except Exception as error:
        raise DataError(f"{shown(name)}: {cause_of(error, name)}") from error


def decode_labels(data: bytes, name: str) -> Tensor:
    """A picture whose pixel values are class numbers: uint8 (H, W), palettes not looked up.

    Raises:
        DataError: No picture, damaged, or with colours instead of numbers.
    """
    require("PIL.Image", "train")
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode not in ("L", "P"):
                raise DataError(
                    f"a picture of mode {image.mode}; class numbers are 8-bit grey or palette "
                    "(modes L, P)"
                )
            image.load()
            width, height = image.size
            numbers = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    except Exception as error:
        raise DataError(f"{shown(name)}: {cause_of(error, name)}") from error
    return numbers.view(height, width)


def cause_of(error: Exception, path: str | os.PathLike[str]) -> str:
    """The reason of a failed reading in one line, without the path."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, DataError):
        return str(error).removeprefix(f"{shown(path)}: ")
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return f"dangling link to {shown(os.readlink(path))}"
        return "the file does not exist"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {MAX_PIXELS:,} pixels; refused as a decompression bomb"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(shown(text).split()) or type(error).__name__


def _check_file(path: str | os.PathLike[str]) -> None:
    kind = os.stat(path)
    # A pipe would block for ever.
    if not stat.S_ISREG(kind.st_mode):
        what = "a directory" if stat.S_ISDIR(kind.st_mode) else "not a regular file"
        raise DataError(f"{what}, not an image file")
    if kind.st_size == 0:
        raise DataError("the file is empty (0 bytes)")


def _pixels(file: BinaryIO, size: tuple[int, int] | None = None) -> Tensor:
    from PIL import Image

    with Image.open(file) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(
                f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels; "
                "refused as a decompression bomb"
            )
        image.load()
        turned = _upright(image)
        if size is not None and (turned.height, turned.width) != size:
            if (image.height, image.width) != size:
                raise DataError(
                    f"{turned.width} x {turned.height} pixels, but the annotation is for "
                    f"{size[1]} x {size[0]}"
                )
            turned = image
        rgb = _to_rgb(turned)
        width, height = rgb.size
        # bytearray: the tensor may write to its memory
        pixels = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    return pixels.view(height, width, 3).permute(2, 0, 1).contiguous()


def _upright(image: Image) -> Image:
    """Turned as the camera's EXIF orientation asks."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF beside sound pixels (ImageNet has such): shown as stored
        return image
    turn = turns.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image) -> Image:
    from PIL import Image as pillow

    if image.mode in (*_SIXTEEN_BITS, "I"):
        low, high = image.getextrema()
        if not 0 <= low <= high <= 65535:  # type: ignore[operator]
            raise DataError(f"whole-number grey from {low} to {high}; expected 0 to 65535")
        # Pillow's own conversion would cut everything above 255.
        return image.convert("I").point(lambda v: v * (1 / 257) + 0.5).convert("L").convert("RGB")
    if image.mode == "F":
        low, high = image.getextrema()
        if not 0 <= low <= high <= 1:  # type: ignore[operator]
            raise DataError(f"floating-point grey from {low} to {high}; expected 0 to 1")
        return image.point(lambda v: v * 255 + 0.5).convert("L").convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = pillow.new("RGBA", layer.size, (255, 255, 255, 255))
        return pillow.alpha_composite(white, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
