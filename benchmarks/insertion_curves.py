"""Accuracy while a trained network is fine-tuned with new blocks: identity against naive start.

    python benchmarks/insertion_curves.py [--out FOLDER] [--blocks ca,se,...] [--seeds N]

For each seed a narrow MobileNetV2 is trained on digit scenes. Then each block is inserted behind
its depthwise convolutions twice, with init="identity" and init="authors", and the network is
fine-tuned on fewer and harder scenes: same data, order and recipe for both, and for a copy without
blocks. Test accuracy is taken before the first step and on the way. Writes insertion_curves.json
and insertion_curves.png; about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from convattn import insert
from convattn.core.config import TrainConfig
from convattn.data.classification import ClassificationData
from convattn.engine.loop import fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder
from convattn.tasks.classification import Classification
from convattn.tasks.train import open_data

HOST = TrainConfig(  # the demo's recipe
    model_args={"width_mult": 0.35, "strides": [2, 1, 1, 2, 2, 1, 1, 1],
                "zero_init_residual": True},
    data_args={"train_count": 2560, "test_count": 1000, "size": 32, "height": [0.6, 0.8],
               "clutter": [1, 4]},
    augment="none", epochs=4, batch=32, optimizer="adamw", lr=0.008, weight_decay=0.05,
    warmup_epochs=0.6, eval_every=4, channels_last=True, tensorboard=False, device="cpu", threads=1,
)  # fmt: skip
TUNED = replace(  # 80 steps at a quarter of the rate; smaller digits in more clutter
    HOST, data_args={"train_count": 640, "test_count": 1000, "size": 32},
    epochs=4, lr=0.002, warmup_epochs=0.0,
)  # fmt: skip
WATCHED = (0, 5, 10, 20, 30, 45, 60)  # steps; and the last
METRIC = "top1"
COLOURS = {"identity": "#1f6fb4", "authors": "#c8502d"}
Curve = list[tuple[int, float]]


class Watch(SilentReporter):
    """Evaluates the task's model at the steps of `WATCHED` and after the last."""

    def __init__(self, task: Classification) -> None:
        self.task, self.total = task, 0
        self.curve: Curve = []

    def start(self, total: int, done: int) -> None:
        """Before the first step."""
        self.total = total
        self.step(done, 0.0)

    def step(self, done: int, loss: float) -> None:
        """Evaluate, if it is time; the loop sets training mode and random state itself."""
        if done in WATCHED or done == self.total:
            self.curve.append((done, accuracy(self.task)))


def accuracy(task: Classification) -> float:
    """Top-1 of the task's model on its test images."""
    loader = DataLoader(task.test_set, 250, collate_fn=task.collate)
    with torch.inference_mode():
        return task.evaluate(task.model.eval(), loader)[METRIC]


def trained(
    config: TrainConfig, data: ClassificationData, model: nn.Module | None = None
) -> tuple[nn.Module, Curve]:
    """Train `model`, or a new one, and return it with its curve."""
    task = Classification(config, data)
    if model is not None:
        task.model = model
    watch = Watch(task)
    with tempfile.TemporaryDirectory() as folder:
        fit(task, config, RunFolder(Path(folder) / "run"), watch)
    return task.model, watch.curve


def measure(host: TrainConfig, tuned: TrainConfig, blocks: list[str], seeds: int) -> list[Any]:
    """For each seed the curves by block and start."""
    first, second = open_data(host), open_data(tuned)
    results = []
    for seed in range(seeds):
        model, before = trained(replace(host, seed=seed), first)
        print(f"seed {seed}: the host has {before[-1][1]:.3f} on its own scenes", flush=True)
        config = replace(tuned, seed=seed)
        curves: dict[str, dict[str, Curve]] = {
            "none": {"no block": trained(config, second, copy.deepcopy(model))[1]}
        }
        for block in blocks:
            curves[block] = {}
            for init in ("identity", "authors"):
                torch.manual_seed(seed)  # of the blocks' own random weights
                new = insert(copy.deepcopy(model), block, at="after_depthwise", init=init)
                curves[block][init] = trained(config, second, new)[1]
            print(seed, block, curves[block], flush=True)
        results.append(curves)
    return results


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """One panel for each block: thin lines are seeds, thick ones their means."""
    from matplotlib.figure import Figure

    blocks = [name for name in results[0] if name != "none"]
    figure = Figure((3.1 * len(blocks), 3.2), layout="constrained")
    panels = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
    for axes, block in zip(panels, blocks, strict=True):
        for start, group in (("identity", block), ("authors", block), ("no block", "none")):
            lines = [run[group][start] for run in results]
            steps = [step for step, _ in lines[0]]
            means = [100 * statistics.mean(y for _, y in ys) for ys in zip(*lines, strict=True)]
            if group == "none":  # dashed, as it lies on the identity start
                axes.plot(steps, means, "--", color="black", lw=1, label=start)
                continue
            for line in lines:
                axes.plot(steps, [100 * y for _, y in line], color=COLOURS[start], lw=0.7)
            axes.plot(steps, means, color=COLOURS[start], lw=2.5, label=start)
        axes.set_title(block)
        axes.set_xlabel("steps after insertion")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0, 100)
    panels[0].set_ylabel("test accuracy, %")
    panels[-1].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=100, metadata={"Software": None})


def table(results: list[dict[str, Any]]) -> str:
    """Means over seeds by steps, as Markdown."""
    steps = [step for step, _ in results[0]["none"]["no block"]]
    lines = [
        f"| block | start | {' | '.join(map(str, steps))} |",
        "| --- " * (2 + len(steps)) + "|",
    ]
    for block, starts in results[0].items():
        for start in starts:
            curves = (run[block][start] for run in results)
            means = (statistics.mean(y for _, y in points) for points in zip(*curves, strict=True))
            cells = " | ".join(f"{100 * mean:.1f}" for mean in means)
            lines.append(f"| {block} | {start} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--blocks", default="ca,se,cbam")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    results = measure(HOST, TUNED, options.blocks.split(","), options.seeds)
    (options.out / "insertion_curves.json").write_text(json.dumps(results))
    draw(results, options.out / "insertion_curves.png")
    print(table(results))


if __name__ == "__main__":
    main()
