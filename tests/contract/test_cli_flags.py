"""The options of every verb: one that is gone or new is a decision, and is made here."""

from __future__ import annotations

import dataclasses

import jsonargparse
import pytest

from convattn.cli import parser as cli
from convattn.core.config import CompareConfig, TrainConfig

RUN = [
    "task",
    "model",
    "model_args",
    "backbone",
    "backbone_args",
    "backbone_weights",
    "attention",
    "attention_args",
    "attention_per_stage",
    "attention_init",
    "at",
    "checkpoint",
    "freeze_host",
    "data",
    "data_args",
    "imgsz",
    "augment",
    "on_bad",
    "epochs",
    "batch",
    "accumulate",
    "optimizer",
    "lr",
    "block_lr",
    "head_lr",
    "momentum",
    "weight_decay",
    "schedule",
    "step_epochs",
    "milestones",
    "step_factor",
    "poly_power",
    "warmup_epochs",
    "warmup_steps",
    "warmup_start",
    "label_smoothing",
    "mixup",
    "cutmix",
    "ema",
    "clip_grad",
    "precision",
    "channels_last",
    "eval_every",
    "save_minutes",
    "keep",
    "on_nonfinite",
    "seed",
    "device",
    "threads",
    "workers",
    "deterministic",
    "tensorboard",
    "project",
    "name",
]
GRID = ["blocks", "seeds", "grid", "jobs"]
NETWORK = {"model_args", "attention", "insert", "attention_args", "at", "host_args"}
HOST = {"host", "host_args", "insert"}  # other names of model, model_args, attention
FILE = ["help", "config", "print_config"]

FLAGS = {
    "train": {*FILE, *RUN, *HOST, "resume"},
    "compare": {*FILE, *RUN, *HOST, *GRID},
    "demo": {*FILE, *RUN, *HOST, *GRID},
    "eval": {"help", "data", "batch", "device"},
    "explain": {"help", "out", "count", "data"},
    "cost": {
        "help", *NETWORK, "input_size", "convention", "per_layer", "per_block", "measure",
        "threads", "device",
    },
    "tables": {"help", "paper", "model", "status", "json"},
    "doctor": {"help", *NETWORK, "input_size", "images", "data"},
    "audit": {"help", "as", "arguments", "attention_args"},
    "data": {"help"},
    "data check": {"help", "task", "data_args", "on_bad"},
    "data shard": {"help", "task", "data_args", "on_bad", "max_mb"},
    "list": {"help"},
}  # fmt: skip
POSITIONS = {
    "eval": ["checkpoint"], "explain": ["checkpoint"], "cost": ["model"], "list": ["what"],
    "doctor": ["model"], "audit": ["target"], "data": ["what"], "data check": ["source"],
    "data shard": ["source", "folder"],
}  # fmt: skip


@pytest.fixture(scope="module")
def verbs() -> dict[str, jsonargparse.ArgumentParser]:
    """The parsers, caught where they are put together."""
    found: dict[str, jsonargparse.ArgumentParser] = {}
    patch = pytest.MonkeyPatch()
    real = cli._new

    def noted(verb: str, *rest: str | None) -> jsonargparse.ArgumentParser:
        found[verb] = real(verb, *rest)  # type: ignore[arg-type]
        return found[verb]

    patch.setattr(cli, "_new", noted)
    cli.parse(["list"])
    patch.undo()
    return found


def test_the_verbs_are_these(verbs: dict[str, jsonargparse.ArgumentParser]) -> None:
    assert set(verbs) == {"", *FLAGS}


@pytest.mark.parametrize("verb", FLAGS)
def test_the_options_are_these(verb: str, verbs: dict[str, jsonargparse.ArgumentParser]) -> None:
    actions = verbs[verb]._actions
    long = {o for action in actions for o in action.option_strings if o.startswith("--")}
    assert {o[2:] for o in long if not o.endswith("+")} == FLAGS[verb]
    assert [a.dest for a in actions if not a.option_strings] == POSITIONS.get(verb, [])


@pytest.mark.parametrize("verb", FLAGS)
def test_every_option_is_explained(
    verb: str, verbs: dict[str, jsonargparse.ArgumentParser]
) -> None:
    for action in verbs[verb]._actions:
        assert action.help and len(action.help) > 5, action.dest  # noqa: PT018


def test_the_options_of_a_run_are_its_configuration() -> None:
    assert [field.name for field in dataclasses.fields(TrainConfig)] == RUN
    assert [field.name for field in dataclasses.fields(CompareConfig)] == GRID
