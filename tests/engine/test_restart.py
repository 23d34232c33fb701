"""torchrun starts a failed run again, and it goes on where its checkpoint is."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from convattn.cli import main
from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.files import load_checkpoint
from convattn.engine.run import RunFolder

DIES = textwrap.dedent("""
    import os, sys
    from convattn.cli import main
    from convattn.engine.run import RunFolder

    save = RunFolder.save

    def dying(self, step, *rest):
        save(self, step, *rest)
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os._exit(7)

    RunFolder.save = dying
    sys.exit(main(sys.argv[1:]))
""")
LINE = [
    "train", "--data_args", "{train_count: 24, test_count: 20, size: 24}", "--batch", "8",
    "--epochs", "3", "--model_args.width_mult", "0.1", "--device", "cpu", "--threads", "1",
    "--tensorboard", "false",
]  # fmt: skip


def test_a_restarted_run_ends_as_one_that_never_failed(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1",
            "--max-restarts", "1", str(tmp_path / "dies.py"), *LINE,
            "--project", str(tmp_path), "--name", "again",
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "resumed at step 3 of 9" in done.stderr
    assert main([*LINE, "--project", str(tmp_path), "--name", "whole"]) == 0
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
