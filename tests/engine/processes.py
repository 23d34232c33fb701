"""Runs under torchrun, and how far two runs are apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from convattn.engine.run import RunFolder

__all__ = ["distance", "state_of", "torchrun"]

HERE = Path(__file__).parent


def torchrun(*arguments: str, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """A script in two processes that find each other on this machine."""
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc_per_node", "2", "--max-restarts", str(restarts), *arguments,
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def distance(a: Any, b: Any) -> float:
    """The largest difference of any two numbers, of tensors or in rows of results."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        return max((distance(a[k], b[k]) for k in a if k != "seconds"), default=0.0)
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        return max(map(distance, a, b), default=0.0)
    if isinstance(a, torch.Tensor):
        return float((a - b).abs().max()) if a.numel() else 0.0
    return abs(a - b) if isinstance(a, float) else float(a != b)


def state_of(folder: Path) -> dict[str, Any]:
    """A run's state, without what two runs may differ in."""
    state, problems = RunFolder(folder).latest()
    assert state is not None
    assert not problems
    for fact in ("config", "bits", "seconds"):
        del state[fact]
    return state
