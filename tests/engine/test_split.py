"""A batch in pieces or over processes is the batch: equal to 1e-12 where no norm mixes samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import distance, state_of, torchrun
from two_processes import run

HERE = Path(__file__).parent


def test_the_measure_sees_a_small_difference() -> None:
    a = {"x": [torch.zeros(3, dtype=torch.float64), 1.0], "n": 3, "seconds": 1.0}
    b = {"x": [torch.zeros(3, dtype=torch.float64), 1.0 + 1e-9], "n": 3, "seconds": 2.0}
    assert 0.9e-9 < distance(a, b) < 1.1e-9
    assert distance(a, a | {"n": 4}) == 1


@pytest.mark.parametrize("size", [22, 21])
@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_pieces_of_a_batch_are_the_batch(accumulate: int, size: int, tmp_path: Path) -> None:
    run(tmp_path / "whole", size, lr=0.2)
    run(tmp_path / "pieces", size, lr=0.2, accumulate=accumulate)
    whole = state_of(tmp_path / "whole")
    assert distance(whole, state_of(tmp_path / "pieces")) < 1e-12
    # and not because nothing moves
    run(tmp_path / "other", size, lr=0.2001, accumulate=accumulate)
    assert distance(whole, state_of(tmp_path / "other")) > 1e-6


@pytest.mark.long
def test_two_processes_are_one(tmp_path: Path) -> None:
    """Several runs by one pair of processes: importing torch takes longer than all of them."""
    runs: list[dict[str, Any]] = [
        {"folder": "plain", "size": 22},
        {"folder": "parts", "size": 22, "parts": True},  # of the loss
        {"folder": "idle", "size": 21},  # the last batch of an epoch has one sample
        {"folder": "pieces", "size": 22, "accumulate": 2},
        {"folder": "adamw", "size": 22, "optimizer": "adamw", "lr": 0.01, "save_minutes": 0.0},
        {"folder": "skip", "size": 22, "poison": [5, float("nan")], "on_nonfinite": "skip"},
        {"folder": "stop", "size": 22, "poison": [5, float("nan")]},
        {"folder": "signal", "size": 22, "kill": 8},
        {"folder": "data", "size": 22, "other": "data"},
        {"folder": "plain", "size": 22, "other": "folder"},  # finished already
    ]
    paired = [{**each, "folder": str(tmp_path / "two" / each["folder"])} for each in runs]
    (tmp_path / "errors").mkdir()
    script = str(HERE / "two_processes.py")
    done = torchrun(script, json.dumps(paired), str(tmp_path / "errors"))
    assert done.returncode == 0, done.stderr
    errors = {p.name: p.read_text().splitlines() for p in (tmp_path / "errors").iterdir()}
    assert set(errors) == {"error-0.txt", "error-1.txt"}, errors
    kinds = ["NonFiniteError", "Interrupted", "DataError", "CheckpointError"]
    for lines in errors.values():  # both stop, for the same reason
        assert [line.split(":")[0] for line in lines] == kinds, lines
        assert "the first from 18, this one from" in lines[3]
    stops = [lines[0] for lines in errors.values()]
    assert sum("loss is nan" in line and "toy/5" in line for line in stops) == 1, stops
    for each in runs[:6]:
        name = each.pop("folder")
        run(tmp_path / "one" / name, **each)
        one, two = state_of(tmp_path / "one" / name), state_of(tmp_path / "two" / name)
        assert one["step"] == 18
        assert one["skipped"] == (3 if name == "skip" else 0)
        assert distance(one, two) < 1e-12, name
    signalled = state_of(tmp_path / "two" / "signal")
    assert signalled["step"] == 8
    stopped = state_of(tmp_path / "two" / "stop")
    assert stopped["skipped"] == 0
    assert (tmp_path / "two" / "stop" / f"nonfinite_step_{stopped['step']}.pt").is_file()
