"""Blocks in YOLOs of ultralytics, an optional host that no extra installs.

uv run --extra dev --with ultralytics pytest tests/insertion/test_yolo.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("ultralytics") is None, reason="ultralytics is not installed; it is in no extra"
)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `yolo_life.py` finds; it says there why it has a process of its own."""
    folder = tmp_path_factory.mktemp("yolo")
    script = Path(__file__).with_name("yolo_life.py")
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true"}
    done = subprocess.run(
        [sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return found


# C3k2 and C2f have one or two bottlenecks with a sum each, of two convolutions
@pytest.mark.parametrize(
    ("name", "sums"),
    [
        ("yolo11n.yaml", 11 + 2),  # 2, 4, 13, 16, 19: one; 6, 8, 22: two; attention and its MLP
        ("yolov8n.yaml", 10),  # 2, 8, 12, 15, 18, 21: one; 4, 6: two
    ],
)
def test_every_position(facts: dict[str, Any], name: str, sums: int) -> None:
    """Identity start, layer attributes, effect and removal at each position that the model has."""
    assert facts[name]["positions"]["before_add"] == sums
    assert facts[name]["wrong"] == []


@pytest.mark.parametrize("name", ["yolo11n.yaml", "yolov8n.yaml"])
def test_fusion_for_prediction_keeps_the_blocks(facts: dict[str, Any], name: str) -> None:
    assert max(facts[name]["fused"].values()) < 1e-5


def test_training_saving_and_loading(facts: dict[str, Any]) -> None:
    life = facts["life"]
    assert life["loaded"] == [[f"model.{i}.attention", True] for i in (2, 4, 6)]
    assert life["layers"], "the attributes i, f and type"
    assert life["moved"] > 0, "layers that began at zero have been trained"
    assert life["repeatable"]
    assert life["boxes"][1] == 6
    assert life["carried"], "a second training begins with the blocks of the first"
    assert life["removed"]
