"""Configurations: each wrong value is named with what is accepted."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest
import yaml

from convattn.core.config import PLACE, CompareConfig, TrainConfig, config_from_dict, differences
from convattn.core.errors import ArgumentError

WRONG: list[tuple[str, Any, str]] = [
    *((name, value, "greater than 0") for name in ("epochs", "batch", "accumulate", "eval_every",
                                                   "step_epochs", "lr", "poly_power")
      for value in (0, -1)),
    *((name, -1, "0 or more") for name in ("workers", "weight_decay", "warmup_epochs",
                                           "mixup", "cutmix", "clip_grad", "save_minutes")),
    *((name, value, r"0\.\.1") for name in ("label_smoothing", "step_factor", "warmup_start")
      for value in (-0.1, 1.5)),
    *((name, value, "0 or more and below 1") for name in ("momentum", "ema")
      for value in (-0.1, 1, 1.5)),
    *(("name", value, "a folder in project") for value in ("", ".", "..", "../a", "a/..")),
    ("data", "", "a source or a folder"),
    ("keep", 0, "1 or more"),
    ("imgsz", 7, "8 or more"),
    ("threads", -2, "1 or more"),
    ("seed", -1, r"0\.\.2\*\*63-1"),
    ("seed", 2**63, r"0\.\.2\*\*63-1"),
    ("accumulate", 65, r"batch \(64\)"),
    ("warmup_epochs", 21.0, r"epochs \(20\)"),
    ("lr", math.nan, "finite"),
    ("lr", math.inf, "finite"),
    ("clip_grad", math.nan, "finite"),
    ("augment", "flop", "'none', 'mirror', 'light', 'flip', 'imagenet'"),
    ("optimizer", "SGD", "'sgd', 'adamw'"),
    ("schedule", "linear", "'cosine', 'poly', 'step', 'constant'"),
    ("precision", "fp64", "'fp32', 'bf16', 'fp16'"),
    ("on_nonfinite", "ignore", "'stop', 'skip'"),
    ("on_bad", "ignore", "'stop', 'skip'"),
    ("device", "tpu", "'auto', 'cpu', 'cuda'"),
    ("attention_init", "zero", "'auto', 'authors', 'identity'"),
    ("block_lr", 0, "greater than 0"),
    ("block_lr", "fast", "a number or null"),
    ("head_lr", -0.1, "greater than 0"),
    ("warmup_steps", -1, "0 or more"),
    ("warmup_steps", 2.5, "a whole number or null"),
    ("milestones", 8, "a list or null"),
    *(("milestones", value, "rising numbers of epochs")
      for value in ([], [0, 8], [11, 8], [8, 8], ["8"], [True])),
    ("checkpoint", 3, "a text or null"),
    ("freeze_host", "yes", "true or false"),
    ("epochs", "3", "a whole number"),
    ("epochs", 3.5, "a whole number"),
    ("epochs", True, "a whole number"),
    ("lr", "fast", "a number"),
    ("lr", None, "a number"),
    ("imgsz", "big", "a whole number or null"),
    ("channels_last", 1, "true or false"),
    ("model_args", [1], "names with values"),
    ("model", 3, "a text"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "accepted"), WRONG)
def test_a_wrong_value_is_named(name: str, value: Any, accepted: str) -> None:
    with pytest.raises(ArgumentError, match=accepted) as caught:
        TrainConfig(**{name: value})
    text = str(caught.value)
    assert text.startswith(name)
    assert repr(value) in text or f"({value:g})" in text
    assert "\n" not in text
    with pytest.raises(ArgumentError, match=accepted):
        config_from_dict({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", 1), ("imgsz", None), ("imgsz", 8), ("ema", 0), ("ema", 0.9999), ("name", "a..b"),
     ("name", "a/b"), ("label_smoothing", 1.0),
     ("seed", 2**63 - 1), ("accumulate", 64), ("warmup_epochs", 20), ("momentum", 0.0),
     ("keep", 1), ("workers", 0), ("warmup_steps", 0), ("milestones", [0.5, 1]),
     ("warmup_start", 1), ("at", "depthwise")],
)  # fmt: skip
def test_values_at_the_edge_are_taken(name: str, value: Any) -> None:
    assert getattr(TrainConfig(**{name: value}), name) == value


def test_one_length_of_the_warm_up_is_enough() -> None:
    assert TrainConfig(warmup_steps=500).warmup_epochs == 0
    with pytest.raises(ArgumentError, match=r"warmup_epochs \(2\) and warmup_steps \(500\).*one"):
        TrainConfig(warmup_epochs=2, warmup_steps=500)


def test_unknown_keys_are_named_with_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"mine\.yaml.*'epoch'.*did you mean 'epochs'"):
        config_from_dict({"epoch": 3}, "mine.yaml")
    with pytest.raises(ArgumentError, match=r"'zzz'; there are .*lr"):
        config_from_dict({"zzz": 3})
    with pytest.raises(ArgumentError, match="1"):
        config_from_dict({1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("values", [None, [], "text"])
def test_what_is_no_configuration_at_all_is_refused(values: Any) -> None:
    with pytest.raises(ArgumentError, match=r"mine\.yaml"):
        config_from_dict(values, "mine.yaml")


def test_plain_values_come_back() -> None:
    config = TrainConfig(attention="ca", attention_args={"reduction": 16}, lr=0.3, name="x")
    assert config_from_dict(dataclasses.asdict(config)) == config
    assert config_from_dict({}) == TrainConfig()


def test_tuples_are_the_lists_of_a_yaml_file() -> None:
    given = TrainConfig(data_args={"height": (0.6, 0.8)}, model_args={"a": {"b": [(1, 2)]}})
    read = config_from_dict(yaml.safe_load(yaml.safe_dump(dataclasses.asdict(given))))
    assert read == given
    assert differences(read, TrainConfig(data_args={"height": (0.6, 0.8)}, model_args={
        "a": {"b": ((1, 2),)}})) == []  # fmt: skip
    assert given.data_args == {"height": [0.6, 0.8]}


def test_differences_are_those_that_change_a_result() -> None:
    old = TrainConfig()
    assert differences(old, old) == []
    new = dataclasses.replace(old, lr=0.1, attention_args={"r": 1}, project="elsewhere", name="n")
    assert sorted(differences(old, new)) == [
        "attention_args was {}, now {'r': 1}",
        "lr was 0.05, now 0.1",
    ]
    other: dict[type, Any] = {str: "x", int: 63, bool: True, float: 0.77, dict: {"a": 1}}
    for field in dataclasses.fields(TrainConfig):
        changed = dataclasses.replace(old)
        value = getattr(old, field.name)
        object.__setattr__(changed, field.name, other.get(type(value), 99))
        assert bool(differences(old, changed)) == (field.name not in PLACE), field.name


def test_configurations_do_not_share_their_dicts() -> None:
    TrainConfig().data_args["size"] = 3
    assert TrainConfig().data_args == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"blocks": []}, r"blocks.*\[\]"),
        ({"blocks": ["ca", "ca"]}, "distinct"),
        ({"blocks": "ca"}, "blocks must be a list, got 'ca'"),
        ({"seeds": 0}, "seeds must be 1 or more, got 0"),
        ({"jobs": 0}, "jobs must be 1 or more, got 0"),
        ({"grid": {"lrr": [1]}}, "unknown key 'lrr'.*did you mean 'lr'"),
        ({"grid": {"seed": [1]}}, "cannot vary 'seed'"),
        ({"grid": {"attention": ["ca"]}}, "cannot vary 'attention'"),
        ({"grid": {"workers": [1]}}, "cannot vary 'workers'"),
        ({"grid": {"lr": 0.1}}, "lr must have a list of values, got 0.1"),
        ({"grid": {"lr": []}}, r"lr must have a list of values, got \[\]"),
    ],
)
def test_wrong_comparisons_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        CompareConfig(**values)


def test_the_configuration_needs_no_torch() -> None:
    code = "import sys, convattn.core.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
