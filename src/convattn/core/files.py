"""Files that are whole or not there: atomic writes, checksummed checkpoints.

A checkpoint is an ordinary `torch.load` file followed by a line with its SHA-256, so that a single
flipped bit or missing byte is an error and not a wrong weight.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch

from convattn.core.errors import CheckpointError, CheckpointNotFoundError

__all__ = [
    "load_checkpoint",
    "load_weights_only",
    "occupied",
    "remove_stale",
    "save_checkpoint",
    "verified_payload",
    "write_atomic",
    "write_json",
]

_TRAILER = re.compile(rb"\nconvattn-checkpoint sha256 ([0-9a-f]{64})\n\Z")
_TRAILER_SIZE = len(b"\nconvattn-checkpoint sha256 " + b"0" * 64 + b"\n")
_ASIDE = ".partial"
_GLOBAL = re.compile(r"\bGLOBAL ([\w.]+)")  # in PyTorch's text about what a pickle may not have


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a file so that readers, and a crash at any moment, see the old or the new one whole.

    Raises:
        OSError: it cannot be written; says which file, how much is needed and how much is free.
            The previous file is intact and nothing is left beside it.
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{_ASIDE}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _discard(aside)
        free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
        raise OSError(
            error.errno,
            f"cannot write it ({error.strerror}; needs {len(content):,} bytes, {free:,} free). "
            "What was there before is intact",
            str(path),
        ) from error
    except BaseException:
        _discard(aside)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


def occupied(path: str | Path) -> bool:
    """Whether a new folder there could overwrite something: a file, or a folder not empty."""
    path = Path(path)
    return any(path.iterdir()) if path.is_dir() else path.exists()


def remove_stale(folder: str | Path) -> None:
    """Delete what killed writers left aside; call it only while no one else writes there."""
    for aside in Path(folder).rglob(f".*{_ASIDE}"):
        aside.unlink(missing_ok=True)


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically, with a checksum."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest().encode()
    write_atomic(path, payload + b"\nconvattn-checkpoint sha256 " + digest + b"\n")


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint back, tensors on the CPU. Runs no code that it might contain.

    Raises:
        CheckpointError: there is none, it is incomplete, corrupt, not ours, or holds more than
            tensors and plain values.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(
            f"no checkpoint at {path}: {error.strerror}. Accepted: a weights file of a run, or the "
            "run's folder."
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    payload = verified_payload(path, data)
    if payload is None and _is_whole(data):
        raise CheckpointError(
            f"{path} is not a file of a run: weights alone do not say of which network they are. "
            f"To train on from it, give train --checkpoint {path}."
        )
    if payload is None:
        raise CheckpointError(
            f"{path} ({len(data):,} bytes) is incomplete or not a convattn checkpoint: its last "
            "line with the checksum is missing. Use the checkpoint before it."
        )
    return load_weights_only(path, payload)


def _is_whole(data: bytes) -> bool:
    """Whether it is a whole file of somebody else: a zip of `torch.save`, safetensors, a pickle."""
    return data[-22:-18] == b"PK\5\6" or data[8:9] == b"{" or data[:1] == b"\x80"


def verified_payload(path: str | Path, data: bytes) -> bytes | None:
    """What a file of `save_checkpoint` holds before its checksum; None for any other file.

    Raises:
        CheckpointError: the checksum is another one.
    """
    match = _TRAILER.search(data[-_TRAILER_SIZE:])
    if match is None:
        return None
    payload = data[:-_TRAILER_SIZE]
    digest = hashlib.sha256(payload).hexdigest().encode()
    if digest != match[1]:
        raise CheckpointError(
            f"{path} is corrupt: checksum {digest[:8].decode()}.., expected "
            f"{match[1][:8].decode()}... Use the checkpoint before it."
        )
    return payload


def load_weights_only(path: str | Path, payload: bytes) -> dict[str, Any]:
    """Unpickle tensors and plain values; anything that would run code is refused unexecuted.

    Raises:
        CheckpointError: it holds something else, which is named, or is damaged.
    """
    if payload.startswith(b"PK"):  # else the older, unzipped format
        _check_zip(path, payload)
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:
        wanted = _GLOBAL.search(str(error))
        if wanted is None:
            reason = str(error).partition("\n")[0]
            raise CheckpointError(
                f"{path} is not a file of tensors and plain values; nothing in it was run "
                f"({reason})"
            ) from error
        raise CheckpointError(
            f"{path} is a pickle that wants {wanted[1]}, more than tensors and plain values, and "
            "such a pickle can run any code. Nothing in it was run. Where the file was made, save "
            "the weights alone: torch.save(model.state_dict(), file), or as safetensors."
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected a dict")
    return state


def _check_zip(path: str | Path, payload: bytes) -> None:
    """Refuse what torch.save does not write: compressed entries, more bytes than the file has."""
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            entries = archive.infolist()
    except Exception as error:  # half a dozen types; torch's own reader may be less strict
        raise CheckpointError(f"{path} is a damaged zip archive ({error}). Refused.") from error
    unpacked = sum(entry.file_size for entry in entries)
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if compressed or unpacked > len(payload):
        raise CheckpointError(
            f"{path} expands from {len(payload):,} to {unpacked:,} bytes or is compressed, which "
            "torch.save never does. Refused before reading."
        )


def _discard(aside: Path) -> None:
    with contextlib.suppress(OSError):  # its folder may be a file or its name too long
        aside.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can; the file is whole in any case."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
