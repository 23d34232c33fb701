"""Every golden network whose source we know: the authors' keys, sizes and numbers, in float64."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from convattn import authors
from oracles import GOLDEN


def source_of(golden: dict[str, Any]) -> str:
    return f"{golden['repository']}:{golden['file']}:{golden['class_name']}"


def known(folder: str) -> list[Path]:
    paths = sorted((GOLDEN / folder).glob("*.json"))
    return [p for p in paths if source_of(json.loads(p.read_text())) in authors.list_sources()]


def drawn(key: str, shape: list[int], dtype: str, gain: float) -> Tensor:
    """The weight rule of golden/MODELS.md."""
    if not dtype.startswith("float"):
        return torch.zeros(shape, dtype=torch.int64)
    n = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
    last = key.rpartition(".")[2]
    if last == "running_var":
        n = 1 + 0.1 * np.abs(n)
    elif last == "weight" and len(shape) >= 2:
        n = gain * n / np.sqrt(np.prod(shape[1:]))
    elif last == "weight":
        n = 1 + 0.1 * n
    elif last in ("running_mean", "bias"):
        n = 0.1 * n
    else:
        n = 0.5 * n
    return torch.from_numpy(np.asarray(n))


@pytest.mark.parametrize("path", known("models") + known("keys"), ids=lambda p: p.stem)
def test_parameters_keys_and_shapes(path: Path) -> None:
    golden = json.loads(path.read_text())
    with torch.device("meta"):
        net = authors.create(source_of(golden), **golden["constructor"])
    ours = authors.to_authors(net, source=source_of(golden))
    assert [[k, list(v.shape)] for k, v in ours.items()] == [e[:2] for e in golden["state_dict"]]
    assert sum(p.numel() for p in net.parameters()) == golden["parameters"]


@pytest.mark.parametrize("path", known("models"), ids=lambda p: p.stem)
def test_outputs(path: Path) -> None:
    golden = json.loads(path.read_text())
    source = source_of(golden)
    state = {k: drawn(k, shape, dtype, golden["gain"]) for k, shape, dtype in golden["state_dict"]}
    total = sum(v.abs().sum().item() for v in state.values() if v.is_floating_point())
    assert total == pytest.approx(golden["sum_abs_of_float_state"], rel=1e-12)
    net = authors.create(source, **golden["constructor"]).double().eval()
    authors.load_authors(net, state, source=source)
    stored = load_file(path.with_suffix(".safetensors"))
    for run in golden["runs"]:
        noise = np.random.Generator(np.random.PCG64(2021)).standard_normal(run["input_shape"])
        with torch.no_grad():
            outputs = net(torch.from_numpy(noise))
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        assert len(outputs) == len(run["outputs"])
        for output, entry in zip(outputs, run["outputs"], strict=True):
            expected = stored[f"{run['tag']}.{entry['name']}"]
            assert (output - expected).abs().max() <= 1e-9 * expected.std()
