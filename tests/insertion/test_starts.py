"""Identity start against naive start: real ImageNet weights, and the script of the curves."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convattn import insert, remove
from oracles import ROOT, SHARED

WEIGHTS = SHARED / "data" / "weights" / "mobilenet_v2_imagenet.pth"
PHOTOS = SHARED / "data" / "classification" / "imagenet1000_samples"


def benchmark(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the shared weights and photos are not here")
def test_real_weights_keep_their_accuracy() -> None:
    """On 20 photos of 1,000: docs/how-to/mobilenet.md has the accuracies on more."""
    script = benchmark("insertion_imagenet")
    pairs = list(script.photos(PHOTOS, every=50))
    images, labels = [x for x, _ in pairs], torch.tensor([label for _, label in pairs])
    net = script.host(WEIGHTS)
    before = script.logits(net, images)
    right = (before.argmax(1) == labels).double().mean()
    assert right >= 0.7
    for block in ("ca", "cbam"):
        insert(net, block, at="after_depthwise")
        assert torch.equal(script.logits(net, images), before), block
        remove(net)
    insert(net, "ca", at="after_depthwise", init="authors").eval()
    naive = (script.logits(net, images).argmax(1) == labels).double().mean()
    assert naive < 0.1  # sixteen gates of about a quarter in a row


def test_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script in seconds: losses in place of accuracies, which would all be chance."""
    pytest.importorskip("sklearn", reason="the digit scenes need scikit-learn")
    script = benchmark("insertion_curves")
    monkeypatch.setattr(script, "METRIC", "loss")
    small: dict[str, Any] = {
        "data_args": {"train_count": 160, "test_count": 40, "size": 24}, "epochs": 1,
        "model_args": {**script.HOST.model_args, "width_mult": 0.1},
    }  # fmt: skip
    host, tuned = (replace(config, **small) for config in (script.HOST, script.TUNED))
    (curves,) = script.measure(host, tuned, ["eca"], seeds=1)
    plain, starts = curves["none"]["no block"], curves["eca"]
    assert [[step for step, _ in curve] for curve in (plain, *starts.values())] == [[0, 5]] * 3
    assert starts["identity"][0] == plain[0]
    assert starts["authors"][0] != plain[0]
    json.dumps(curves)
    script.draw([curves], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(script.table([curves]).splitlines()) == 2 + 1 + 2
