"""Checkpoints: any damage is an error, nothing in a file is run, a failed write harms nothing."""

from __future__ import annotations

import errno
import io
import operator
import os
import pickle
import random
import re
import resource
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convattn.core.errors import CheckpointError
from convattn.core.files import (
    load_checkpoint,
    remove_stale,
    save_checkpoint,
    write_atomic,
    write_json,
)


def state(number: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(number)
    return {
        "model": {"weight": torch.randn(20, 30, generator=generator), "steps": torch.tensor(7)},
        "optimizer": {"state": {0: {"momentum": torch.randn(5, generator=generator)}}},
        "step": number,
        "history": [{"epoch": 1, "top1": 0.5, "name": "x"}, None, True],
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(torch.equal(a, b)) if isinstance(a, torch.Tensor) else a == b


def sealed(payload: bytes) -> bytes:
    """Any payload with a right checksum, as an attacker would write it."""
    return payload + b"\nconvattn-checkpoint sha256 " + sha256(payload).hexdigest().encode() + b"\n"


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "new" / "folder" / "a.ckpt", state(3))
    assert same(load_checkpoint(tmp_path / "new" / "folder" / "a.ckpt"), state(3))
    assert os.listdir(tmp_path / "new" / "folder") == ["a.ckpt"]
    # also for programs that know nothing of convattn
    plain = torch.load(tmp_path / "new" / "folder" / "a.ckpt", weights_only=True)
    assert same(plain, state(3))


def test_every_flipped_bit_and_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.ckpt"
    save_checkpoint(path, state())
    whole = path.read_bytes()
    draw = random.Random(0)
    ends = range(len(whole) - 94, len(whole))  # the line with the checksum itself
    places = [draw.randrange(len(whole)) for _ in range(280)] + draw.sample(ends, 20)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value), place
    for length in [0, 1, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(47))]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"{length:,} bytes.*incomplete") as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)
    path.write_bytes(whole)
    assert same(load_checkpoint(path), state())


def test_missing_folder_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file") as caught:
        load_checkpoint(tmp_path / "gone.ckpt")
    assert "gone.ckpt" in str(caught.value)
    with pytest.raises(CheckpointError, match="directory"):
        load_checkpoint(tmp_path)
    torch.save(torch.zeros(2), tmp_path / "plain.pt")
    with pytest.raises(CheckpointError, match=r"plain\.pt is not a file of a run"):
        load_checkpoint(tmp_path / "plain.pt")
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    (tmp_path / "list.ckpt").write_bytes(sealed(buffer.getvalue()))
    with pytest.raises(CheckpointError, match="holds a list, expected a dict"):
        load_checkpoint(tmp_path / "list.ckpt")


# --- files that would run code ------------------------------------------------------------------


class Runs:
    """Runs a command when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


class Evaluates(Runs):
    def __reduce__(self) -> Any:
        return eval, (f"__import__('os').system({self.command!r})",)


class ImportsOs:
    def __reduce__(self) -> Any:
        return __import__, ("os",)


class GetsSystem:
    def __reduce__(self) -> Any:
        return getattr, (ImportsOs(), "system")


class Chains(Runs):
    """Reaches the function through getattr, so that its own name is never asked for."""

    def __reduce__(self) -> Any:
        return operator.call, (GetsSystem(), self.command)


class SetsState:
    """Runs in __setstate__, so that no suspicious function is named."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __setstate__(self, values: dict[str, Any]) -> None:
        Path(values["marker"]).touch()


class Unknown:
    """A harmless class that is not one of tensors and plain values."""


def saved(value: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def by_opcodes(marker: Path) -> bytes:
    """A pickle without any zip around it."""
    return pickle.dumps({"model": Runs(marker)}, protocol=2)


def old_tar(marker: Path) -> bytes:
    """The format before the oldest pickle format: a tar with pickles in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(Runs(marker), protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def script_archive(marker: Path) -> bytes:
    """As torch.jit.save lays it out: constants.pkl beside the data."""
    content = io.BytesIO(saved({"model": torch.zeros(2)}))
    with zipfile.ZipFile(content, "a") as archive:
        root = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{root}/constants.pkl", pickle.dumps(Runs(marker), protocol=2))
    return content.getvalue()


MALICIOUS: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda m: saved({"model": Runs(m)}),
    "eval": lambda m: saved({"model": Evaluates(m)}),
    "getattr": lambda m: saved({"model": Chains(m)}),
    "nested in lists": lambda m: saved({"a": [1, [2, (3, {"b": [Runs(m)]})]]}),
    "in the optimiser's state": lambda m: saved(
        {"model": {}, "optimizer": {"state": {0: {"momentum": Runs(m)}}, "param_groups": []}}
    ),
    "as a dict's key": lambda m: saved({Runs(m): 1}),
    "__setstate__": lambda m: saved({"model": SetsState(m)}),
    "unknown class": lambda m: saved({"model": Unknown()}),
    "a whole module": lambda m: saved({"model": nn.Linear(2, 2)}),
    "script archive": script_archive,
    "pickle without zip": by_opcodes,
    "legacy format": lambda m: saved({"model": Runs(m)}, _use_new_zipfile_serialization=False),
    "legacy tar": old_tar,
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_code_in_a_checkpoint_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "malicious.ckpt"
    path.write_bytes(sealed(MALICIOUS[name](marker)))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "weights_only=False" not in str(caught.value)  # no advice to run it
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["os.system", "eval", "getattr", "__setstate__", "pickle without zip", "legacy format"]
)
def test_the_attacks_are_real(name: str, tmp_path: Path) -> None:
    """Else the test above could not fail."""
    marker = tmp_path / "marker"
    data = MALICIOUS[name](marker)
    if name == "pickle without zip":
        pickle.loads(data)
    else:
        torch.load(io.BytesIO(data), weights_only=False)
    assert marker.exists()


BOMB = 200 << 20  # bytes, unpacked


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A checkpoint whose one storage is compressed zeros."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"t": torch.zeros(8)}))) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
    ):
        for name in source.namelist():
            target.writestr(name, bytes(BOMB) if "/data/" in name else source.read(name))
    return buffer.getvalue()


def damage_directory(payload: bytes, offset: int, value: bytes) -> bytes:
    """The first entry of the zip's directory changed."""
    start = payload.index(b"PK\x01\x02")
    return payload[: start + offset] + value + payload[start + offset + len(value) :]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("honest", lambda data: data),
        # headers that Python's reader refuses but another reader might forgive
        ("strange version", lambda data: damage_directory(data, 6, struct.pack("<H", 99))),
        ("name not UTF-8", lambda data: damage_directory(
            damage_directory(data, 8, struct.pack("<H", 0x800)), 46, b"\xff\xfe")),
        ("sizes denied", lambda data: damage_directory(data, 24, struct.pack("<L", 10))),
    ],
)  # fmt: skip
def test_a_zip_bomb_is_refused_before_it_unpacks(
    name: str, change: Callable[[bytes], bytes], bomb: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.ckpt"
    path.write_bytes(sealed(change(bomb)))
    assert path.stat().st_size < 2_000_000
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        text = "loaded"
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            text = str(error)
        finally:
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            (tmp_path / "answer").write_text(f"{grown} {text}")
            os._exit(0)
    os.waitpid(child, 0)
    grown, text = (tmp_path / "answer").read_text().split(" ", 1)
    assert str(path) in text
    assert "Refused" in text
    assert int(grown) < BOMB >> 12, f"{grown} kB were allocated"  # a quarter


# --- writing ------------------------------------------------------------------------------------


def test_disk_full_at_any_byte_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.ckpt"
    save_checkpoint(path, state(1))
    before = path.read_bytes()
    draw = random.Random(1)
    for limit in [0, 1, len(before) - 1, *(draw.randrange(len(before)) for _ in range(17))]:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                save_checkpoint(path, state(2))
            except OSError as error:
                told = str(path) in str(error) and f"needs {len(before):,} bytes" in str(error)
                free = re.search(r" ([\d,]+) free", str(error))
                right = told and free and int(free[1].replace(",", "")) > 0
                code = 0 if right and error.errno == errno.EFBIG else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, limit
        assert os.listdir(path.parent) == ["a.ckpt"]
        assert path.read_bytes() == before
    assert same(load_checkpoint(path), state(1))
    save_checkpoint(path, state(2))  # with space again
    assert same(load_checkpoint(path), state(2))


def test_readers_during_three_hundred_saves_see_no_torn_file(tmp_path: Path) -> None:
    path, done = tmp_path / "a.ckpt", tmp_path / "done"
    save_checkpoint(path, state(0))
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                reads, last = 0, -1
                while not done.exists() or reads == 0:
                    step = load_checkpoint(path)["step"]
                    assert step >= last
                    reads, last = reads + 1, step
                (tmp_path / f"reads-{number}").write_text(str(reads))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    try:
        for number in range(1, 301):
            save_checkpoint(path, state(number))
    finally:
        done.touch()
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * 4
    assert sum(int((tmp_path / f"reads-{n}").read_text()) for n in range(4)) >= 100


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_a_failure_at_any_moment_leaves_the_old_file(
    moment: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def fails(*details: object) -> None:
        raise error

    if moment == "replace":
        monkeypatch.setattr(Path, "replace", fails)
    elif moment == "fsync":
        monkeypatch.setattr(os, "fsync", fails)
    else:
        opened = Path.open

        def fails_later(self: Path, mode: str) -> Any:
            file = opened(self, mode)
            file.write(b"ne")
            file.flush()
            monkeypatch.setattr(Path, "open", opened)
            file.close()
            raise error

        monkeypatch.setattr(Path, "open", fails_later)
    with pytest.raises(type(error)) as caught:
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    if isinstance(error, OSError):
        assert str(path) in str(caught.value)
        assert "intact" in str(caught.value)


def test_a_folder_that_cannot_be_synced_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on network file systems; the file is written by then."""
    real = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "not for folders")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_atomic(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("name", ["file/a.txt", "x" * 250])
def test_impossible_places_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="cannot write it") as caught:
        write_atomic(tmp_path / name, "new")
    assert str(tmp_path / name) in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("stop", "expected"), [(1, "old"), (2, "old"), (3, "new")])
def test_old_or_new_bytes_survive_a_kill(stop: int, expected: str, tmp_path: Path) -> None:
    """Dead before the first fsync, the rename, and the fsync of the folder."""
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    child = os.fork()
    if child == 0:
        calls = []

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*details: Any) -> Any:
                calls.append(1)
                return os.kill(os.getpid(), 9) if len(calls) == stop else real(*details)

            return call

        os.fsync, Path.replace = dying(os.fsync), dying(Path.replace)  # type: ignore
        try:
            write_atomic(path, "new")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert path.read_text() == expected
    remove_stale(tmp_path)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_remove_stale_takes_only_what_was_left_aside(tmp_path: Path) -> None:
    kept = ["a.ckpt", ".hidden", "x.partial", ".lock", "weights/best.pt"]
    stale = [".a.ckpt.17.partial", "weights/.best.pt.9.partial"]
    (tmp_path / "weights").mkdir()
    for name in kept + stale:
        (tmp_path / name).write_text("x")
    remove_stale(tmp_path)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == set(kept)
    remove_stale(tmp_path / "gone")  # nothing to do


def test_json_keeps_the_order_of_its_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    assert (tmp_path / "a.json").read_text().split() == [
        "{", '"b":', "1,", '"a":', "[", "1.5,", "null", "]", "}",
    ]  # fmt: skip


def test_threads_of_one_process_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    contents = [chr(97 + n) * 50_000 for n in range(4)]
    errors: list[BaseException] = []

    def writes(content: str) -> None:
        try:
            for _ in range(25):
                write_atomic(tmp_path / "a.txt", content)
                assert (tmp_path / "a.txt").read_text() in contents
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=writes, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert os.listdir(tmp_path) == ["a.txt"]
