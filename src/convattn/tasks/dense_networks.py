"""The detector or segmenter of a run: a backbone with its blocks and weights, and heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError, CheckpointError
from convattn.core.files import load_checkpoint
from convattn.core.seeds import seeded
from convattn.insertion import insertions, rebuild
from convattn.models import create_model
from convattn.models.dense import assemble, backbone_of
from convattn.models.dense.features import Maps
from convattn.tasks.networks import (
    load_host,
    place_blocks,
    read_file,
    under_our_names,
    weights_file,
)

__all__ = ["build_dense", "head_tensors", "rebuild_dense"]


def build_dense(
    config: TrainConfig,
    num_classes: int,
    seed: int,
    arguments: dict[str, Any],
    *,
    resumed: bool = False,
) -> tuple[nn.Module, dict[str, Any], list[str]]:
    """The network of a configuration: a backbone with its blocks and weights, and heads.

    Args:
        config: its fields on the network, its blocks and weights.
        num_classes: of the data.
        seed: of all random weights.
        arguments: `model_args`, completed by the task.
        resumed: all weights come from a checkpoint of the run, so no file is read.

    Returns:
        The network, the facts for `rebuild_dense`, and notes for the user.

    Raises:
        ArgumentError, UnknownNameError: of the network, the blocks or their arguments.
        CheckpointError, StateDictError: a file cannot be read, or does not fit.
    """
    for name in ("mixup", "cutmix", "label_smoothing"):
        if getattr(config, name):
            raise ArgumentError(
                f"{name} is of classification; --task {config.task} has none: leave it out, got "
                f"{getattr(config, name)!r}"
            )
    if config.backbone is None:
        raise ArgumentError(
            f"--model {config.model} needs a backbone, such as --backbone mobilenet_v2"
        )
    host_name, own, rest = backbone_of(config.model, config.backbone, arguments)
    with seeded(seed):
        host = create_model(host_name, **{**config.backbone_args, **own})
        if config.backbone_weights is None or resumed:
            notes: list[str] = []
            place_blocks(host, config)
        else:
            path = weights_file(config.backbone_weights)
            notes = _load_backbone(host, config.backbone, path, config)
        facts = {
            "model": config.model,
            "model_args": rest,
            "num_classes": num_classes,
            "network": host.origin,
            "inserted": insertions(host),
        }
        model = assemble(config.model, host, num_classes, **rest)
    if config.checkpoint is not None and not resumed:
        file = read_file(config.checkpoint)
        weights, more = under_our_names(model, file, config.checkpoint, ())
        notes += [*more, *load_host(model, weights, config.checkpoint, (), config.model)]
    return model, facts, notes


def rebuild_dense(facts: dict[str, Any]) -> nn.Module:
    """The network of these facts with random weights."""
    host = rebuild(create_model(**facts["network"]), facts["inserted"])
    return assemble(facts["model"], host, facts["num_classes"], **facts["model_args"])


def head_tensors(model: nn.Module) -> set[str]:
    """Names of the parameters outside the backbone: pyramids and heads, which data decide."""
    backbone = {id(p) for m in model.modules() if isinstance(m, Maps) for p in m.parameters()}
    return {name for name, p in model.named_parameters() if id(p) not in backbone}


def _load_backbone(host: nn.Module, name: str, path: Path, config: TrainConfig) -> list[str]:
    """Put blocks into a backbone and load a classification network's weights into it.

    A file without blocks is loaded before they are made, one that holds blocks behind it.

    Returns:
        Notes for the user.
    """
    with seeded(0):
        whole = create_model(name, **config.backbone_args)
    file = read_file(path)
    weights, notes = under_our_names(whole, file, path, _only_in_one(whole, host))
    trained = not weights.keys() <= {*whole.state_dict(), *host.state_dict()}
    if trained:
        place_blocks(host, config)
        with seeded(0):
            place_blocks(whole, config)
        weights, notes = under_our_names(whole, file, path, _only_in_one(whole, host))
        if weights.keys() <= {*whole.state_dict(), *host.state_dict()}:
            _check_start(path, config)
    free = _only_in_one(whole, host)
    blocks = "these blocks" if trained else "no blocks"
    notes += load_host(host, weights, path, free, name, blocks=blocks)
    if not trained:
        place_blocks(host, config)
    return notes


def _only_in_one(whole: nn.Module, host: nn.Module) -> set[str]:
    """Heads, and a detector's extra layers."""
    return set(whole.state_dict()) ^ set(host.state_dict())


def _check_start(path: Path, config: TrainConfig) -> None:
    """Refuse a start of the blocks other than the file's: gates are doubled in one from identity.

    It has to be said, as a resumed run does not read the file again.
    """
    try:
        saved = load_checkpoint(path)
    except CheckpointError:  # no run's: somebody else's training, which knows no other start
        saved = {}
    wanted = saved.get("facts", {}).get("network", {}).get("attention_init", "authors")
    if config.attention_init != wanted:
        raise ArgumentError(
            f"{path} holds weights of blocks that started as {wanted!r}, and attention_init is "
            f"{config.attention_init!r}; give --attention_init {wanted}"
        )
