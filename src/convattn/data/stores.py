"""Where files lie: a folder, or a tar archive in its place, read without unpacking.

A dataset's `images/` may be a folder, `images.tar`, or the folder `images/` inside any archive
beside it. A plain archive is read in place; a compressed one is held in memory, so compress
annotations, not pictures.
"""

from __future__ import annotations

import functools
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from convattn.core.errors import DataError
from convattn.data.images import cause_of, read_bytes, shown

__all__ = ["Store", "find_store"]

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


class Store(Protocol):
    """Files by name, '/' between folders."""

    def __contains__(self, name: object) -> bool: ...

    def names(self) -> list[str]:
        """All files, sorted."""

    def read(self, name: str) -> bytes:
        """The content; raises `DataError` with name and cause."""

    def size(self, name: str) -> int:
        """Number of bytes; -1 if there is no such file."""

    def shown(self, name: str) -> str:
        """The name as in messages."""


@dataclass(frozen=True)
class Folder:
    """Files below a folder; `base` is where messages begin to count the path."""

    path: Path
    base: Path

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (self.path / name).exists()

    def names(self) -> list[str]:
        """Every visible file below the folder."""
        found = []
        for here, folders, files in os.walk(self.path, followlinks=False):
            folders[:] = [f for f in folders if not f.startswith(".")]
            inside = Path(here).relative_to(self.path)
            found += [(inside / f).as_posix() for f in files if not f.startswith(".")]
        return sorted(found)

    def read(self, name: str) -> bytes:
        """The content."""
        path = self.path / name
        try:
            return read_bytes(path)
        except (OSError, DataError) as error:
            raise DataError(f"{self.shown(name)}: {cause_of(error, path)}") from error

    def size(self, name: str) -> int:
        """Number of bytes, or -1."""
        try:
            return os.stat(self.path / name).st_size
        except OSError:
            return -1

    def shown(self, name: str) -> str:
        """The path below the base."""
        return shown(os.path.relpath(self.path / name, self.base)).replace(os.sep, "/")


@dataclass(frozen=True)
class Archive:
    """Files of a tar archive whose names begin with `prefix`, which is left out."""

    path: Path
    prefix: str
    members: dict[str, tuple[int, int] | bytes] = field(repr=False)  # (offset, size) or content

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.prefix + name in self.members

    def names(self) -> list[str]:
        """Every file below the prefix."""
        cut = len(self.prefix)
        return sorted(n[cut:] for n in self.members if n.startswith(self.prefix))

    def read(self, name: str) -> bytes:
        """The content."""
        found = self.members.get(self.prefix + name)
        if found is None:
            raise DataError(f"{self.shown(name)}: the archive holds no such file")
        if isinstance(found, tuple):
            offset, size = found
            # Opened anew each time: safe in threads, forks and pickles.
            with open(self.path, "rb") as file:
                file.seek(offset)
                found = file.read(size)
            if len(found) != size:
                raise DataError(f"{self.shown(name)}: the archive ends within the file")
        if not found:
            raise DataError(f"{self.shown(name)}: the file is empty (0 bytes)")
        return found

    def size(self, name: str) -> int:
        """Number of bytes, or -1."""
        found = self.members.get(self.prefix + name)
        if found is None:
            return -1
        return found[1] if isinstance(found, tuple) else len(found)

    def shown(self, name: str) -> str:
        """Archive and member: 'images.tar/train/1.png'."""
        return shown(f"{self.path.name}/{self.prefix}{name}")


def find_store(root: Path, name: str) -> Store | None:
    """The files of `root/name`: the folder, `name.tar`, or `name/` within an archive in `root`."""
    path = root / name
    if path.is_dir():
        return Folder(path, root)
    for suffix in _ARCHIVES:
        archive = path.with_name(path.name + suffix)
        if archive.is_file():
            members = _members(archive)
            inside = f"{path.name}/"
            return Archive(archive, inside if _all_below(members, inside) else "", members)
    for archive in sorted(root.iterdir()) if root.is_dir() else []:
        if archive.name.endswith(_ARCHIVES) and archive.is_file():
            members = _members(archive)
            if any(member.startswith(f"{name}/") for member in members):
                return Archive(archive, f"{name}/", members)
    return None


def _all_below(members: dict[str, tuple[int, int] | bytes], inside: str) -> bool:
    return bool(members) and all(member.startswith(inside) for member in members)


def _members(path: Path) -> dict[str, tuple[int, int] | bytes]:
    status = path.stat()
    return _index(path.resolve(), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _index(path: Path, mtime: int, size: int) -> dict[str, tuple[int, int] | bytes]:
    """Regular files of an archive; where they lie in it, or their content if it is compressed."""
    found: dict[str, tuple[int, int] | bytes] = {}
    try:
        plain = path.suffix == ".tar"
        with tarfile.open(path, "r:" if plain else "r:*") as archive:
            for member in archive:
                if member.isfile():
                    name = os.path.normpath(member.name).replace(os.sep, "/")
                    if plain:
                        found[name] = (member.offset_data, member.size)
                    else:
                        file = archive.extractfile(member)
                        assert file is not None
                        found[name] = file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{shown(path)}: not a readable tar archive: {error}.") from error
    return found
