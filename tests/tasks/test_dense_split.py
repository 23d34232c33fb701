"""A batch over two processes is the batch, to 1e-12, for every dense task.

In float64, images of one size, frozen batch norms. What ordinary batch norms make of it is told
too: each process has the statistics of its own part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dense_processes import run
from processes import distance, state_of, torchrun

SMALL = {"model_args": {"width": 32}, "augment": "mirror"}  # images keep their size
RUNS: dict[str, dict[str, Any]] = {
    "deeplabv3": {"task": "segmentation", "model": "deeplabv3", "model_args": {"aux": True},
                  "augment": "flip"},
    "multibox": {"task": "detection", "model": "ssdlite320", "imgsz": 64, "augment": "flip"},
    "focal": {"task": "detection", "model": "ssdlite320", "imgsz": 64, "augment": "flip",
              "model_args": {"loss": "focal"}},
    "retinanet": {"task": "detection", "model": "retinanet", **SMALL},
    "faster_rcnn": {"task": "detection", "model": "faster_rcnn", **SMALL},
    "mask_rcnn": {"task": "instance", "model": "mask_rcnn", **SMALL},
}  # fmt: skip
FOUR = {"train_count": 4, "test_count": 1, "size": 32}  # batch norm wants two images each
NORMS = {"batch norm": {**RUNS["deeplabv3"], "frozen": False, "data_args": FOUR}}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs by one pair of processes: importing torch takes longer than most of them."""
    root = tmp_path_factory.mktemp("two")
    runs = [{"folder": str(root / name), **fields} for name, fields in (RUNS | NORMS).items()]
    done = torchrun(str(Path(__file__).with_name("dense_processes.py")), json.dumps(runs))
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_are_one(name: str, two: Path, tmp_path: Path) -> None:
    run(tmp_path, **RUNS[name])
    one, other = state_of(tmp_path), state_of(two / name)
    for state in (one, other):
        for row in state["history"]:  # torchvision has this part in float32
            row.update({k: round(row[k], 6) for k in ("train_loss_objectness",) if k in row})
            if "rcnn" in name:
                del row["train_loss"]
    assert one["step"] == 2
    assert distance(one, other) < 1e-12
    moved = [each["momentum_buffer"].abs().max() for each in one["optimizer"]["state"].values()]
    assert max(moved) > 1e-3  # it was trained


def test_ordinary_batch_norm_sees_its_process_alone(two: Path, tmp_path: Path) -> None:
    run(tmp_path, **NORMS["batch norm"])
    one, other = state_of(tmp_path), state_of(two / "batch norm")
    assert distance(one["model"], other["model"]) > 1e-3
