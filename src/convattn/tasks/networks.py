"""The network of a run: built from plain facts, with a file's weights, and rebuilt from them.

The facts are what a weights file holds beside the weights, so it rebuilds the network alone: the
host by name and arguments, and its blocks, or a record of what was inserted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from convattn.authors import renamed
from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError, StateDictError
from convattn.core.inserts import parse_inserts
from convattn.core.seeds import seeded
from convattn.core.weights import read_weights
from convattn.insertion import insertions, rebuild
from convattn.insertion.groups import block_parameters
from convattn.models import create_model
from convattn.models._blocks import put_blocks

__all__ = [
    "build_network",
    "class_tensors",
    "load_host",
    "parameter_groups",
    "place_blocks",
    "read_file",
    "rebuild_network",
    "under_our_names",
    "weights_file",
]


def build_network(
    config: TrainConfig, num_classes: int, seed: int, *, resumed: bool = False
) -> tuple[nn.Module, dict[str, Any], list[str]]:
    """The network of a configuration: its host, with a file's weights if it names one, and blocks.

    The host is drawn and loaded before any block is made, so for one seed its weights are the same
    whatever the blocks.

    Args:
        config: its fields on the network, its blocks, weights and what of it is trained.
        num_classes: of the data.
        seed: of all random weights.
        resumed: all weights come from a checkpoint of the run, so the file is not read.

    Returns:
        The network, the facts for `rebuild_network`, and notes for the user.

    Raises:
        ArgumentError, UnknownNameError: of the network, the blocks or their arguments.
        CheckpointError, StateDictError: the file cannot be read, or does not fit the host.
    """
    notes: list[str] = []
    with seeded(seed):
        model = create_model(config.model, **config.model_args, num_classes=num_classes)
        if config.checkpoint is not None and not resumed:
            free = class_tensors(config, num_classes)
            weights, notes = under_our_names(
                model, read_file(config.checkpoint), config.checkpoint, free
            )
            notes += load_host(model, weights, config.checkpoint, free, config.model)
        place_blocks(model, config)
    return model, {"network": model.origin, "inserted": insertions(model)}, notes


def place_blocks(model: nn.Module, config: TrainConfig) -> None:
    """Put a configuration's blocks into a network; "auto" is the identity in a trained one."""
    init = config.attention_init
    if init == "auto":
        trained = config.checkpoint is not None or config.backbone_weights is not None
        init = "identity" if trained else "authors"
    put_blocks(
        model,
        parse_inserts(config.attention, config.at),
        arguments=config.attention_args,
        per_stage=config.attention_per_stage,
        init=init,
    )


def rebuild_network(facts: dict[str, Any]) -> nn.Module:
    """The network of these facts with random weights."""
    return rebuild(create_model(**facts["network"]), facts["inserted"])


def class_tensors(config: TrainConfig, num_classes: int) -> set[str]:
    """Names of the tensors whose shape the number of classes decides: the network's head."""
    with seeded(0):
        here, other = (
            create_model(config.model, **config.model_args, num_classes=count).state_dict()
            for count in (num_classes, num_classes + 1)
        )
    return {name for name in here if name not in other or here[name].shape != other[name].shape}


def weights_file(path: str | Path) -> Path:
    """The file itself, or the best weights in the folder of a run."""
    path = Path(path)
    return path / "weights" / "best.pt" if path.is_dir() else path


def read_file(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, or of the best weights in the folder of a run.

    Raises:
        CheckpointError: the file cannot be read or holds no state dict.
    """
    return read_weights(weights_file(path))


def under_our_names(
    model: nn.Module, weights: dict[str, Tensor], path: str | Path, free: Collection[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors renamed where they have an authors' names of this network; others as they are.

    Args:
        model: whose names they should be.
        weights: from `read_file`.
        path: where they come from, for messages.
        free: tensors of the model that need not be there.

    Returns:
        The tensors, and notes for the user.
    """
    needed = {k for k in model.state_dict() if k not in free and not _counts_batches(k)}
    if needed <= weights.keys():
        return weights, []
    found = renamed(weights, model, free)
    return (weights, []) if found is None else (found, [f"{path} has its authors' names"])


def load_host(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    path: str | Path,
    free: Collection[str],
    name: str,
    *,
    blocks: str = "no blocks",
) -> list[str]:
    """Load tensors into a network; only those in `free` may not fit.

    Args:
        model: changed in place; on an error it is left as it was.
        weights: from `under_our_names`.
        path: where they come from, for messages.
        free: tensors that keep their random values where there is none of that shape.
        name: of the network, for messages.
        blocks: what the file should hold of blocks, for messages.

    Returns:
        Notes for the user.

    Raises:
        StateDictError: a tensor is missing, unexpected or differently shaped.
    """
    ours = model.state_dict()
    fresh = [key for key in ours if key in free and not _fits(weights.get(key), ours[key])]
    # counters of batch norm came with PyTorch 0.4.1; nothing depends on them here
    missing = [k for k in ours if k not in weights and k not in free and not _counts_batches(k)]
    unexpected = [key for key in weights if key not in ours and key not in free]
    differing = [
        f"{key} is {tuple(weights[key].shape)}, expected {tuple(ours[key].shape)}"
        for key in ours
        if key in weights and key not in free and weights[key].shape != ours[key].shape
    ]
    if missing or unexpected or differing:
        raise StateDictError(
            f"{path} does not fit {name}: {_count('missing', missing)}, "
            f"{_count('unexpected', unexpected)}, {_count('differently shaped', differing)}. Only "
            f"the class head may differ ({_listed(sorted(free))}). Is it a file of this network, "
            f"with these --model_args, and {blocks}?"
        )
    model.load_state_dict(
        {**ours, **{k: v for k, v in weights.items() if k in ours and k not in fresh}}
    )
    notes = [f"{len(ours) - len(fresh)} of {len(ours)} tensors of {name} come from {path}"]
    if fresh:
        notes.append(f"not from {path}, but initialised anew: {_by_part(fresh)}")
    return notes


def parameter_groups(
    model: nn.Module, config: TrainConfig, head: Callable[[], set[str]]
) -> list[dict[str, Any]]:
    """What is trained, and at which share of the learning rate; see `Task.parameters`.

    With `freeze_host` that is the blocks and the class head; for the rest `requires_grad` is
    switched off.

    Args:
        model: with its blocks.
        config: its `freeze_host`, `lr`, `block_lr` and `head_lr`.
        head: names the tensors that the data decide; asked with `freeze_host` or `head_lr` alone.

    Raises:
        ArgumentError: there would be nothing to train.
    """
    in_blocks = {id(p) for p in block_parameters(model)}
    names = head() if config.freeze_host or config.head_lr is not None else set()
    if config.freeze_host:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(id(parameter) in in_blocks or name in names)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ArgumentError(
            f"freeze_host leaves nothing to train: {config.model} has no class head, and attention "
            f"{config.attention!r} no parameter"
        )
    rates = {"host": config.lr, "blocks": config.block_lr, "head": config.head_lr}
    groups: dict[str, list[nn.Parameter]] = {part: [] for part in rates}
    for name, parameter in model.named_parameters():
        part = "blocks" if id(parameter) in in_blocks else "head" if name in names else "host"
        if parameter.requires_grad:
            groups[part if rates[part] is not None else "host"].append(parameter)
    return [
        {"params": groups[part], "scale": rate / config.lr}
        for part, rate in rates.items()
        if rate is not None and groups[part]
    ]


def _fits(theirs: Tensor | None, ours: Tensor) -> bool:
    return theirs is not None and theirs.shape == ours.shape


def _counts_batches(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _count(what: str, names: list[str]) -> str:
    return f"{len(names)} {what}" + (f" ({_listed(names)})" if names else "")


def _by_part(names: list[str]) -> str:
    """A few names, or how many there are in each of the network's parts."""
    if len(names) <= 5:
        return ", ".join(names)
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{part} ({count} tensors)" for part, count in counts.items())


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "nothing"
