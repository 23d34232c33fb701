"""A run's folder: one writer, names, results, checkpoints that are kept and fallen back to."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import ToyTask

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError, CheckpointError, RunBusyError
from convattn.core.files import load_checkpoint
from convattn.engine.loop import fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder

BASE = TrainConfig(epochs=3, batch=4, device="cpu", threads=1, tensorboard=False)


@contextlib.contextmanager
def child_that_holds(run: RunFolder, *, and_forks: bool = False) -> Iterator[tuple[int, int]]:
    """A process inside `run.locked()`; yields its pid and, if asked for, that of its own child."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with run.locked():
                grandchild = os.fork() if and_forks else 0
                if grandchild == 0 and and_forks:
                    time.sleep(60)
                    os._exit(0)
                os.write(writes, str(grandchild).encode())
                time.sleep(60)
        finally:
            os._exit(1)
    grandchild = int(os.read(reads, 20))
    try:
        yield child, grandchild
    finally:
        for pid in (child, grandchild):
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        os.close(reads)
        os.close(writes)


def test_a_second_writer_is_refused_by_pid_and_host(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with child_that_holds(run) as (pid, _):
        with pytest.raises(RunBusyError, match=rf"pid {pid} on {socket.gethostname()}") as caught:
            run.locked().__enter__()
        assert str(run.path) in str(caught.value)
        assert "--name" in str(caught.value)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with run.locked():  # the lock of a dead process is none
            assert f"pid {os.getpid()}" in (run.path / ".lock").read_text()


def test_the_lock_dies_with_its_holder_though_a_data_worker_lives_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with child_that_holds(run, and_forks=True) as (pid, worker):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.kill(worker, 0)  # alive
        with run.locked():
            pass


def test_the_lock_is_free_behind_an_error_and_within_one_process_single(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.locked(), pytest.raises(RunBusyError):
        RunFolder(tmp_path).locked().__enter__()
    with pytest.raises(ZeroDivisionError), run.locked():
        _ = 1 / 0
    (tmp_path / ".x.ckpt.1.partial").write_text("left by a killed writer")
    with run.locked():
        assert not list(tmp_path.glob(".x*"))


def test_names_are_numbered_and_given_ones_are_not_reused(tmp_path: Path) -> None:
    config = replace(BASE, project=str(tmp_path), attention="ca")
    names = []
    for _ in range(3):
        run = RunFolder.new(config)
        run.write_config(config)
        names.append(run.path.name)
    assert names == ["mobilenet_v2_ca", "mobilenet_v2_ca_2", "mobilenet_v2_ca_3"]
    assert RunFolder.new(replace(config, attention="none")).path.name == "mobilenet_v2"
    named = replace(config, name="mine")
    run = RunFolder.new(named)
    assert run.path == tmp_path / "mine"
    run.write_config(named)
    with pytest.raises(ArgumentError, match=r"holds a run already.*--resume.*another --name") as e:
        RunFolder.new(named)
    assert str(run.path) in str(e.value)


def test_a_folder_with_files_of_others_is_not_written_to(tmp_path: Path) -> None:
    named = replace(BASE, project=str(tmp_path), name="taken")
    (tmp_path / "taken").mkdir()
    assert RunFolder.new(named).path == tmp_path / "taken"  # nothing is in it
    (tmp_path / "taken" / "results.csv").write_text("mine")
    with pytest.raises(ArgumentError, match=r"taken holds files and no run.*another --name"):
        RunFolder.new(named)


def test_other_processes_of_a_run_find_the_folder_that_the_first_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = replace(BASE, project=str(tmp_path), name="mine")
    RunFolder.new(named).write_config(named)
    monkeypatch.setenv("RANK", "1")
    assert RunFolder.new(named).path == tmp_path / "mine"


def test_the_configuration_comes_back_and_damage_is_named(tmp_path: Path) -> None:
    config = replace(
        BASE, lr=1e-5, weight_decay=4e-5, attention_args={"reduction": 8}, name="null", at=None,
        seed=2**63 - 1, data_args={"height": [0.5, 0.8]},
    )  # fmt: skip
    run = RunFolder(tmp_path)
    with pytest.raises(CheckpointError, match=r"not a run's folder: it has no args\.yaml"):
        run.config()
    run.write_config(config)
    assert run.config() == config
    path = tmp_path / "args.yaml"
    text = path.read_text()
    path.write_text(text.replace("epochs: 3", "epoch: 3"))
    with pytest.raises(ArgumentError, match=r"args\.yaml.*'epoch'.*did you mean 'epochs'"):
        run.config()
    path.write_text(text.replace("epochs: 3", "epochs: three"))
    with pytest.raises(ArgumentError, match="epochs must be a whole number, got 'three'"):
        run.config()
    for damaged in (": [", "", "just text"):
        path.write_text(damaged)
        with pytest.raises((CheckpointError, ArgumentError), match=r"args\.yaml"):
            run.config()
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(CheckpointError, match=r"args\.yaml"):
        run.config()


def test_results_have_one_line_per_epoch_and_blanks_where_nothing_was_measured(
    tmp_path: Path,
) -> None:
    run = RunFolder(tmp_path)
    fit(ToyTask(), replace(BASE, epochs=5, eval_every=2), run, SilentReporter())
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == ["epoch", "step", "train_loss", "lr", "top1", "seconds"]
    assert [row["epoch"] for row in rows] == list("12345")
    assert [row["step"] for row in rows] == ["6", "12", "18", "24", "30"]
    assert [bool(row["top1"]) for row in rows] == [False, True, False, True, True]
    assert all(float(row["train_loss"]) > 0 for row in rows)
    state, _ = run.latest()
    assert state is not None
    best = max((row for row in state["history"] if "top1" in row), key=lambda row: row["top1"])
    assert load_checkpoint(tmp_path / "weights" / "best.pt")["metrics"] == best
    assert load_checkpoint(tmp_path / "weights" / "last.pt")["metrics"] == state["history"][-1]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_so_many_checkpoints_are_kept(keep: int, tmp_path: Path) -> None:
    run, seen = RunFolder(tmp_path), []

    class Watch(SilentReporter):
        def step(self, done: int, loss: float) -> None:
            seen.append(len(list((tmp_path / "checkpoints").glob("*"))))

    fit(ToyTask(), replace(BASE, keep=keep, save_minutes=0.0), run, Watch())
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"step_{step:09d}.ckpt" for step in range(19 - keep, 19)]
    assert max(seen) == keep


def test_the_newest_readable_checkpoint_is_taken(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.latest() == (None, [])
    for step in (8, 9, 10, 11):
        run.save(step, {"step": step, "x": torch.ones(3)}, keep=4)
    folder = tmp_path / "checkpoints"
    newest = folder / "step_000000011.ckpt"
    newest.write_bytes(newest.read_bytes()[:-10])
    (folder / "step_000000010.ckpt").write_bytes(b"")
    state, problems = run.latest()
    assert state is not None
    assert state["step"] == 9
    assert len(problems) == 2
    assert str(newest) in problems[0]
    for path in folder.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError) as caught:
        run.latest()
    assert all(str(path) in str(caught.value) for path in folder.iterdir())


def test_a_damaged_newest_checkpoint_is_not_kept_instead_of_a_good_one(tmp_path: Path) -> None:
    """The run goes on from an older one; its later, damaged one must not push out the new."""
    run = RunFolder(tmp_path)
    for step in (6, 12):
        run.save(step, {"step": step}, keep=2)
    damaged = tmp_path / "checkpoints" / "step_000000012.ckpt"
    damaged.write_bytes(b"damaged")
    assert (run.latest()[0] or {})["step"] == 6
    run.save(7, {"step": 7}, keep=1)
    state, problems = run.latest()
    assert state == {"step": 7}
    assert problems == []


def test_a_state_of_another_network_is_refused_in_a_sentence(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    fit(ToyTask(), replace(BASE, epochs=1), run, SilentReporter())
    task = ToyTask()
    task.model[7] = torch.nn.Linear(8, 4)
    with pytest.raises(CheckpointError, match=r"does not fit this network.*7\.weight"):
        fit(task, replace(BASE, epochs=1), run, SilentReporter())
    task = ToyTask()
    task.fingerprint = "other"
    with pytest.raises(CheckpointError, match="the data are not those of the checkpoint"):
        fit(task, replace(BASE, epochs=1), run, SilentReporter())
    state, _ = run.latest()
    assert state is not None
    for broken in ({"step": 7}, {**state, "config": {**state["config"], "new": 1}}):
        run.save(7, broken, keep=1)
        with pytest.raises(CheckpointError, match="another version of convattn"):
            fit(ToyTask(), replace(BASE, epochs=1), run, SilentReporter())


def test_the_summary_says_that_a_run_is_finished(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.summary() is None
    run.finish({"metrics": {"top1": 0.5}})
    assert run.summary() == {"metrics": {"top1": 0.5}}
    assert json.loads((tmp_path / "summary.json").read_text()) == run.summary()
