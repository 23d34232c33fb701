"""torchrun starts a failed run again, and it goes on where its checkpoint is."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch
from processes import torchrun

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.files import load_checkpoint
from convattn.data.sharding import shard_data
from convattn.engine.run import RunFolder

KILLED = textwrap.dedent("""
    import os, signal, sys
    from convattn.cli import main
    from convattn.engine import loop

    save = loop._Trainer._save

    def dying(self):
        save(self)
        first_time = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first_time and os.environ["RANK"] == "1" and self.state.step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    if "again" in sys.argv:
        loop._Trainer._save = dying
    sys.exit(main(sys.argv[1:]))
""")


@pytest.mark.long
def test_two_processes_of_which_one_is_killed_end_as_if_it_was_not(tmp_path: Path) -> None:
    scenes = {"train_count": 24, "test_count": 20, "size": 24}
    shard_data("scenes", tmp_path / "shards", "classification", **scenes)
    (tmp_path / "killed.py").write_text(KILLED)
    line = [
        "train", "--data", str(tmp_path / "shards"), "--project", str(tmp_path), "--batch", "8",
        "--epochs", "3", "--model_args.width_mult", "0.1", "--device", "cpu", "--threads", "1",
        "--tensorboard", "false",
    ]  # fmt: skip
    for name, restarts in (("again", 1), ("whole", 0)):
        done = torchrun(str(tmp_path / "killed.py"), *line, "--name", name, restarts=restarts)
        assert done.returncode == 0, done.stderr
        assert ("resumed at step 3 of 9" in done.stderr) == (name == "again")
    again, whole = (
        load_checkpoint(tmp_path / name / "weights" / "last.pt")["model"]
        for name in ("again", "whole")
    )
    assert all(torch.equal(again[key], whole[key]) for key in whole)


def test_only_a_restart_may_use_a_name_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(project=str(tmp_path), name="a")
    RunFolder.new(config).write_config(config)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    with pytest.raises(ArgumentError, match="holds a run already"):
        RunFolder.new(config)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert RunFolder.new(config).path == tmp_path / "a"


def test_a_run_that_may_be_restarted_needs_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(project=str(tmp_path))
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    assert RunFolder.new(config).path == tmp_path / "mobilenet_v2"
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    with pytest.raises(ArgumentError, match="--max-restarts needs a run with a --name"):
        RunFolder.new(config)
