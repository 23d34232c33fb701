"""A list of labelled image files, and the check that decodes each of them before training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from convattn.core.errors import DataError
from convattn.data.defects import OnBad, check_on_bad, in_threads
from convattn.data.images import cause_of, read_bytes, read_image, shown

__all__ = ["ImageFiles", "check_images", "fingerprint"]

_NAMED = 10  # how many culprits a message lists


@dataclass(frozen=True)
class ImageFiles:
    """Labelled image files; each is decoded when asked for.

    `names[i]` is file i's path below the root, as `os.fsdecode` gives it; `labels` is int64 (n,).
    """

    root: Path
    names: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def sample_id(self, index: int) -> str:
        """The path below the root, printable."""
        return shown(self.names[index]).replace(os.sep, "/")

    def path(self, index: int) -> Path:
        """The file itself."""
        return self.root / self.names[index]

    def image(self, index: int) -> Tensor:
        """The pixels: uint8 (3, H, W). Raises `DataError` with path and cause."""
        return read_image(self.path(index))

    def image_file(self, index: int) -> tuple[str, bytes]:
        """The file's name and content; raises `DataError` if it has become unreadable."""
        path = self.path(index)
        try:
            return self.names[index], read_bytes(path)
        except (OSError, DataError) as error:
            raise DataError(f"{shown(path)}: {cause_of(error, path)}") from error

    def keep(self, wanted: list[int]) -> ImageFiles:
        """Only these samples."""
        names = tuple(self.names[i] for i in wanted)
        return ImageFiles(self.root, names, self.labels[torch.tensor(wanted, dtype=torch.int64)])


def check_images(
    files: ImageFiles,
    on_bad: OnBad = "stop",
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[int], tuple[tuple[str, str], ...], set[tuple[int, int]]]:
    """Decode every file once.

    Args:
        files: What to check.
        on_bad: "stop" raises if any file is bad; "skip" reports them.
        threads: Decoding threads; default one per CPU, at most 16.
        progress: Called with (done, total) after each file.

    Returns:
        The indices of the good files, (name, cause) of the bad ones, and the (height, width) met.

    Raises:
        DataError: A bad file and `on_bad="stop"`; names up to ten files with their causes.
    """
    check_on_bad(on_bad)

    def examine(index: int) -> tuple[int, int] | str:
        try:
            return tuple(files.image(index).shape[1:])  # type: ignore[return-value]
        except DataError as error:
            return cause_of(error, files.path(index))

    good: list[int] = []
    bad: list[tuple[str, str]] = []
    sizes: set[tuple[int, int]] = set()
    for index, result in enumerate(in_threads(examine, len(files), threads, progress)):
        if isinstance(result, str):
            bad.append((files.sample_id(index), result))
        else:
            good.append(index)
            sizes.add(result)
    if bad and on_bad == "stop":
        lines = "".join(f"\n  {name}: {cause}" for name, cause in bad[:_NAMED])
        more = f"\n  and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        raise DataError(
            f"{len(bad):,} of {len(files):,} images in {shown(files.root)} cannot be used:"
            f"{lines}{more}\nRepair or remove them, or leave them out with on_bad='skip' "
            "(--on_bad skip)."
        )
    return good, tuple(bad), sizes


def fingerprint(*splits: ImageFiles) -> str:
    """sha256 over every split's sorted relative paths and file sizes."""
    digest = hashlib.sha256()
    for number, files in enumerate(splits):
        for name in sorted(files.names, key=os.fsencode):
            try:
                size = os.stat(files.root / name).st_size
            except OSError:
                size = -1
            digest.update(b"%d\0%s\0%d\n" % (number, os.fsencode(name), size))
    return digest.hexdigest()
