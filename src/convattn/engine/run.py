"""A run's folder: configuration, checkpoints, weights, results; one writer at a time.

runs/NAME/
    args.yaml          everything to repeat the run
    environment.json   where it ran
    results.csv        one line per epoch
    weights/           best.pt, last.pt: state dict and what rebuilds the network
    checkpoints/       state to resume from, the newest few
    summary.json       written last: the run is finished
"""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import io
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

import yaml

from convattn.core.config import TrainConfig, config_from_dict
from convattn.core.errors import (
    ArgumentError,
    CheckpointError,
    CheckpointNotFoundError,
    RunBusyError,
)
from convattn.core.files import (
    load_checkpoint,
    occupied,
    remove_stale,
    save_checkpoint,
    write_atomic,
    write_json,
)

__all__ = ["RunFolder"]

_held: set[IO[str]] = set()


def _let_go() -> None:
    """In a forked child, such as a data worker: it may outlive the run, its lock may not."""
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_let_go)


class RunFolder:
    """The folder of one run.

    Args:
        path: where it is or will be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def new(cls, config: TrainConfig) -> RunFolder:
        """A folder with nothing in it yet: `project/name`, or a numbered default name.

        Processes that torchrun has started again go on in the folder of that name.

        Raises:
            ArgumentError: the name is taken, or torchrun may restart a run without a name.
        """
        project = Path(config.project)
        if config.name is not None:
            folder = cls(project / config.name)
            restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
            first = os.environ.get("RANK", "0") == "0"  # the others may find what it has made
            if first and not restarted and folder.exists():
                raise ArgumentError(
                    f"{folder.path} holds a run already. Go on with --resume {folder.path}, "
                    "or choose another --name."
                )
            if first and not restarted and occupied(folder.path):
                raise ArgumentError(
                    f"{folder.path} holds files and no run; expected a new or empty folder. "
                    "Choose another --name."
                )
            return folder
        if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0:
            raise ArgumentError(
                "torchrun --max-restarts needs a run with a --name: what is started again goes on "
                "in the folder of that name"
            )
        attention = None if config.attention == "none" else config.attention
        base = "_".join(filter(None, (config.model, config.backbone, attention)))
        base = re.sub(r"[^\w.=-]+", "_", base).strip("_")  # of timm/resnet18 and ca@after_conv2
        names = (base if n == 1 else f"{base}_{n}" for n in range(1, 1_000_000))
        return next(cls(project / name) for name in names if not (project / name).exists())

    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "args.yaml").is_file()

    def begun(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return bool(self._newest_first())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer; a lock of a dead process does not count.

        Raises:
            RunBusyError: another process writes here; names it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a+") as file:
            if not _flocked(file):
                file.seek(0)
                raise RunBusyError(
                    f"{self.path} is in use by {file.read().strip() or 'another process'}. "
                    "Wait for it, or use another --name."
                )
            file.truncate(0)
            file.write(
                f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M')}"
            )
            file.flush()
            remove_stale(self.path)
            _held.add(file)
            try:
                yield
            finally:
                _held.discard(file)

    def write_config(self, config: TrainConfig) -> None:
        """Write args.yaml."""
        text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
        write_atomic(self.path / "args.yaml", text)

    def config(self) -> TrainConfig:
        """Read args.yaml.

        Raises:
            CheckpointError: there is none, or it is no YAML.
            ArgumentError: it has an unknown key or a wrong value.
        """
        path = self.path / "args.yaml"
        if not path.is_file():
            raise CheckpointNotFoundError(f"{self.path} is not a run's folder: it has no args.yaml")
        try:
            values = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error
        return config_from_dict(values, str(path))

    def save(self, step: int, state: dict[str, Any], keep: int) -> None:
        """Write the state to resume from, then drop all but the newest `keep`.

        Later steps than this one can only be checkpoints that could not be read; they go first.
        """
        path = self._checkpoints() / f"step_{step:09d}.ckpt"
        save_checkpoint(path, state)
        found = self._newest_first()
        later = found.index(path)
        for old in found[:later] + found[later + keep :]:
            old.unlink()

    def latest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest readable state (None if there is none), and what was wrong with newer ones.

        Raises:
            CheckpointError: there are checkpoints, but none can be read.
        """
        problems: list[str] = []
        for path in self._newest_first():
            try:
                return load_checkpoint(path), problems
            except CheckpointError as error:
                problems.append(str(error))
        if problems:
            raise CheckpointError(" ".join(problems))
        return None, []

    def save_weights(self, name: str, state: dict[str, Any]) -> None:
        """Write weights/NAME.pt."""
        save_checkpoint(self.path / "weights" / f"{name}.pt", state)

    def write_results(self, history: list[dict[str, Any]]) -> None:
        """Write results.csv anew."""
        text = io.StringIO()
        if history:
            columns = list(dict.fromkeys(name for row in history for name in row))
            columns.sort(key=lambda name: name == "seconds")  # last, whatever came up later
            writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
            writer.writeheader()
            writer.writerows(history)
        write_atomic(self.path / "results.csv", text.getvalue())

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json: the run is done."""
        write_json(self.path / "summary.json", summary)

    def summary(self) -> dict[str, Any] | None:
        """The summary of a finished run, else None."""
        path = self.path / "summary.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def _newest_first(self) -> list[Path]:
        return sorted(self._checkpoints().glob("step_*.ckpt"), reverse=True)


def _flocked(file: TextIO) -> bool:
    """Take the lock; a killed process's child that was just being started may hold it a moment."""
    for _ in range(20):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False
