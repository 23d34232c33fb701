"""A run resumed at any moment is the uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy import BASE, SIZE, ToyTask, fingerprint_of, whole_run

from convattn.core.errors import CheckpointError
from convattn.engine.loop import fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder
from convattn.engine.signals import Interrupted

STEPS = 3 * -(-SIZE // 4)


class StopAfter(SilentReporter):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, done: int, loss: float) -> None:
        if done == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two loader processes": {"workers": 2},
    "four pieces": {"accumulate": 4},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "average of weights": {"ema": 0.9},
    "AdamW and clipping": {"optimizer": "adamw", "clip_grad": 0.5, "lr": 0.01},
    "step schedule": {"schedule": "step", "step_epochs": 1},
    "channels last": {"channels_last": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_interrupted_and_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    config = replace(BASE, **VARIANTS[name])
    expected = whole_run(config, tmp_path / "whole")
    run = RunFolder(tmp_path / "stopped")
    # first step, middle of an epoch, last of an epoch, the step behind it, the last of all
    for step in (1, 3, 6, 7, STEPS):
        with pytest.raises(Interrupted) as stopped:
            fit(ToyTask(), config, run, StopAfter(step))
        assert stopped.value.number == signal.SIGTERM
        state, _ = run.latest()
        assert state is not None
        assert state["step"] == step
    fit_done = fit(ToyTask(), config, run, SilentReporter())
    assert fit_done["epoch"] == 3
    assert fingerprint_of(run) == expected


def test_seeds_decide(tmp_path: Path) -> None:
    first = whole_run(BASE, tmp_path / "a")
    assert whole_run(BASE, tmp_path / "b") == first
    assert whole_run(replace(BASE, seed=1), tmp_path / "c") != first
    assert whole_run(replace(BASE, workers=2), tmp_path / "d") == first


@pytest.mark.long
def test_a_hundred_kills(tmp_path: Path) -> None:
    # in a process of its own: it forks, and PyTorch forbids that once a test has started threads
    script = Path(__file__).with_name("hundred_kills.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("100 kills")


def test_a_damaged_newest_checkpoint_falls_back_loudly(tmp_path: Path) -> None:
    expected = whole_run(BASE, tmp_path / "whole")
    run = RunFolder(tmp_path / "damaged")
    with pytest.raises(Interrupted):
        fit(ToyTask(), BASE, run, StopAfter(9))
    newest = max((run.path / "checkpoints").glob("*.ckpt"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    notes = []

    class Notes(SilentReporter):
        def note(self, text: str) -> None:
            notes.append(text)

    fit(ToyTask(), BASE, run, Notes())
    assert any("corrupt" in note and newest.name in note for note in notes)
    assert fingerprint_of(run) == expected


def test_other_configuration_is_refused_by_name(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(Interrupted):
        fit(ToyTask(), BASE, run, StopAfter(2))
    with pytest.raises(CheckpointError, match=r"lr was 0\.05, now 0\.1"):
        fit(ToyTask(), replace(BASE, lr=0.1), run, SilentReporter())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_the_command_with_its_code(number: int, code: int, tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys
        from convattn.cli import main
        sys.exit(main(sys.argv[1:]))
    """)
    line = [
        "train", "--epochs", "500", "--data_args", "{train_count: 64, test_count: 20, size: 32}",
        "--model_args.width_mult", "0.1", "--batch", "8", "--project", str(tmp_path), "--name", "x",
        "--tensorboard", "false", "--threads", "1",
    ]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", program, *line])
    folder = tmp_path / "x"
    deadline = time.monotonic() + 120
    while not list((folder / "checkpoints").glob("*.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == code
    state, problems = RunFolder(folder).latest()
    assert state is not None
    assert not problems
