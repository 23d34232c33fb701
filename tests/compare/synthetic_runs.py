"""Synthetic run records, shaped like the ones a real grid writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convattn.compare.records import Run

__all__ = ["record", "runs_of"]

COSTS = {
    "none": (601_000, 8_812_000, 3.10),
    "se": (631_442, 8_841_000, 3.55),
    "cbam": (632_010, 9_120_400, 5.40),
    "eca": (601_055, 8_815_000, 3.40),
    "ca": (655_330, 8_960_100, 4.20),
}


def record(
    label: str, seed: int, value: float, /, *, epochs: int = 4, **changes: Any
) -> dict[str, Any]:
    parameters, macs, latency = COSTS.get(label, (640_000, 9_000_000, 4.0))
    made = {
        "schema": 1,
        "cell": {"attention": label},
        "label": label,
        "seed": seed,
        "metrics": {"top1": value, "top5": 0.99, "loss": 1 - value},
        "history": [
            {
                "epoch": epoch,
                "train_loss": 2.3 - 1.7 * epoch / epochs + 0.01 * seed,
                "loss": 2.0 - 1.4 * epoch / epochs,
                "top1": 0.1 + (value - 0.1) * epoch / epochs,
                "lr": 0.05,
                "seconds": 1.2,
            }
            for epoch in range(1, epochs + 1)
        ],
        "cost": {
            "parameters": parameters,
            "macs": macs,
            "latency_ms": {
                "median": latency,
                "low": latency - 0.1,
                "high": latency + 0.2,
                "threads": 1,
                "batch": 1,
            },
        },
        "config": {
            "model": "mobilenet_v2",
            "attention": label,
            "seed": seed,
            "epochs": epochs,
            "optimizer": {"name": "sgd", "lr": 0.05},
        },
        "environment": {"torch": "2.14.0", "python": "3.11", "cpu": "a cpu", "threads": 1},
        "data": {
            "name": "scenes",
            "fingerprint": "9f2c",
            "classes": [str(i) for i in range(10)],
            "train": 2000,
            "test": 500,
        },
        "seconds": 14.2,
    }
    return {**made, **changes}


def runs_of(values: dict[str, Sequence[float]]) -> list[Run]:
    """Runs with given metric values: one label each, seeds counted from 0."""
    return [
        Run.from_dict(record(label, seed, value))
        for label, row in values.items()
        for seed, value in enumerate(row)
    ]
