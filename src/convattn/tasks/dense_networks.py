"""The detector or segmenter of a run: a backbone with its blocks and weights, and heads."""

from __future__ import annotations

from typing import Any

from torch import nn

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.inserts import parse_inserts
from convattn.core.seeds import seeded
from convattn.insertion import insertions, rebuild
from convattn.models import create_model
from convattn.models._blocks import put_blocks
from convattn.models.dense import assemble, backbone_of
from convattn.models.dense.features import Maps
from convattn.tasks.networks import load_host

__all__ = ["build_dense", "head_tensors", "rebuild_dense"]


def build_dense(
    config: TrainConfig,
    num_classes: int,
    seed: int,
    arguments: dict[str, Any],
    *,
    resumed: bool = False,
) -> tuple[nn.Module, dict[str, Any], list[str]]:
    """The network of a configuration; the backbone is drawn and loaded before any block is made.

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
    if config.backbone is None:
        raise ArgumentError(
            f"--model {config.model} needs a backbone, such as --backbone mobilenet_v2"
        )
    host_name, own, rest = backbone_of(config.model, config.backbone, arguments)
    host_args = {**config.backbone_args, **own}
    loaded = config.backbone_weights or config.checkpoint
    init = config.attention_init
    if init == "auto":
        init = "authors" if loaded is None else "identity"
    notes: list[str] = []
    with seeded(seed):
        host = create_model(host_name, **host_args)
        if config.backbone_weights is not None and not resumed:
            free = _heads(config.backbone, config.backbone_args, host)
            notes = load_host(host, config.backbone_weights, free, config.backbone)
        put_blocks(
            host,
            parse_inserts(config.attention, config.at),
            arguments=config.attention_args,
            per_stage=config.attention_per_stage,
            init=init,
        )
        facts = {
            "model": config.model,
            "model_args": rest,
            "num_classes": num_classes,
            "network": host.origin,
            "inserted": insertions(host),
        }
        model = assemble(config.model, host, num_classes, **rest)
    if config.checkpoint is not None and not resumed:
        notes += load_host(model, config.checkpoint, set(), config.model)
    return model, facts, notes


def rebuild_dense(facts: dict[str, Any]) -> nn.Module:
    """The network of these facts with random weights."""
    host = rebuild(create_model(**facts["network"]), facts["inserted"])
    return assemble(facts["model"], host, facts["num_classes"], **facts["model_args"])


def head_tensors(model: nn.Module) -> set[str]:
    """Names of the parameters outside the backbone: pyramids and heads, which data decide."""
    backbone = {id(p) for m in model.modules() if isinstance(m, Maps) for p in m.parameters()}
    return {name for name, p in model.named_parameters() if id(p) not in backbone}


def _heads(name: str, arguments: dict[str, Any], host: nn.Module) -> set[str]:
    """What only one of the classification network and the backbone has: heads, extra blocks."""
    with seeded(0):
        whole = create_model(name, **arguments)
    return set(whole.state_dict()) ^ set(host.state_dict())
