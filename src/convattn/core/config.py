"""Configuration of a run. Each field is an option of the command line and a key of the YAML file.

This file imports no torch, so that `--help` and wrong arguments are answered at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

from convattn.core.errors import ArgumentError
from convattn.core.fields import check_types, plain, rising
from convattn.core.inserts import parse_inserts
from convattn.core.names import suggest

__all__ = ["MOVED", "PLACE", "CompareConfig", "TrainConfig", "config_from_dict", "differences"]

POSITIVE = ("epochs", "batch", "accumulate", "eval_every", "step_epochs", "lr", "poly_power")
NOT_NEGATIVE = (
    "workers", "weight_decay", "warmup_epochs", "mixup", "cutmix", "clip_grad",
    "save_minutes",
)  # fmt: skip
FRACTIONS = ("label_smoothing", "step_factor", "warmup_start")
DECAYS = ("momentum", "ema")  # at 1 nothing new would ever count

# fields that say where and how a run is carried out, not what it computes
PLACE = ("project", "name", "tensorboard", "workers", "save_minutes", "keep")
# at resume the data may lie elsewhere: their fingerprint decides whether they are the same
MOVED = (*PLACE, "data")


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Args:
        task: "classification", "detection", "instance" (segmentation) or "segmentation".
        model: network; see `convattn list models`, or timm/NAME or torchvision/NAME of
            `convattn list hosts`.
        model_args: its arguments, such as {width_mult: 0.5}.
        backbone: network inside a model for detection or segmentation, by name as a model.
        backbone_args: its arguments.
        backbone_weights: file with weights of the backbone, as checkpoint, or with its blocks too,
            from a classification run or training with them; null draws them.
        attention: block in the network; see `convattn list blocks`. With its position
            ca@after_conv2, or several such, se@stage_end,ca@after_depthwise.
        attention_args: the block's arguments, such as {reduction: 16}; of several blocks, by their
            names.
        attention_per_stage: arguments that differ by stage, such as {kernel_size: [3, 5, 5, 7]}.
        attention_init: "authors", or "identity": at first the network computes what it computes
            without blocks; "auto" is "identity" with a checkpoint, else "authors".
        at: position of the block where `attention` has none: a name such as after_depthwise, a
            path in the network, also with wildcards (layer?.*.bn3), or re: and a regular
            expression over paths; null takes the block's or network's authors' own.
        checkpoint: file with weights of the network without blocks (.pt, .pth, .safetensors), under
            our names or its authors', or folder of a run; its class head may be for other classes.
        freeze_host: only blocks and class head are trained.
        data: "scenes" (embedded digit scenes) or a folder; its format is told from its content.
        data_args: arguments of the data, such as {train_count: 4000} for scenes.
        imgsz: side of the square training images in pixels; null keeps the data's own size, 224
            for photographs.
        augment: "none"; "mirror", mirroring at random and nothing else; and by task. In
            classification "light" shifts by an eighth, "flip" also mirrors, "imagenet" is the
            random resized crop with mirroring. In detection "light" is SSD's zooming out and crops
            by overlap, "flip" also mirrors, "imagenet" also distorts colours: all of SSD's. In
            segmentation "light" scales by 0.5 to 2 and crops, "flip" also mirrors, "imagenet" also
            distorts colours.
        on_bad: an unreadable image stops the run before training ("stop") or is left out and
            counted ("skip").
        epochs: passes over the training images.
        batch: images per optimiser step, over all processes and pieces.
        accumulate: pieces that a batch is computed in, to save memory.
        optimizer: "sgd" (Nesterov off, as the papers) or "adamw".
        lr: peak learning rate.
        block_lr: peak learning rate of the blocks; null for the same.
        head_lr: peak learning rate of what the data decide: the class head, a detector's or
            segmenter's pyramid and heads; null for the same.
        momentum: of SGD.
        weight_decay: on all parameters.
        schedule: "cosine" or "poly" to zero per step, "step", or "constant".
        step_epochs: epochs between drops of the step schedule.
        milestones: epochs after which the step schedule drops, also parts of one, such as [8, 11];
            null for one every `step_epochs`.
        step_factor: what the rate is multiplied by at each drop.
        poly_power: exponent of the poly schedule, (1 - t / T) ** poly_power.
        warmup_epochs: epochs of linear warm-up.
        warmup_steps: its length in steps instead; null takes `warmup_epochs`.
        warmup_start: share of the rate in the first step of the warm-up; 0 for one step's share.
        label_smoothing: of classification, from 0 to 1.
        mixup: of classification, alpha of mixup, 0 for none.
        cutmix: of classification, alpha of CutMix, 0 for none; with both, each batch takes one at
            random.
        ema: decay of an exponential moving average of the weights that is evaluated and kept
            instead of them, 0 for none.
        clip_grad: largest norm of the gradient, 0 for no limit.
        precision: "fp32", "bf16" or "fp16" (mixed precision).
        channels_last: memory format of images and weights.
        eval_every: epochs between evaluations; the last is always evaluated.
        save_minutes: a checkpoint is written at least this often, besides each epoch's end.
        keep: checkpoints kept for resuming.
        on_nonfinite: at a NaN or infinity, "stop", or "skip" the step and count it.
        seed: of weights, order and augmentation.
        device: "auto", "cpu" or "cuda".
        threads: of one process on the CPU; null leaves PyTorch's choice.
        workers: processes that load images.
        deterministic: only deterministic algorithms.
        tensorboard: write TensorBoard files too.
        project: folder of the runs.
        name: of this run's folder; null makes one from model and attention.
    """

    task: Literal["classification", "detection", "instance", "segmentation"] = "classification"
    model: str = "mobilenet_v2"
    model_args: dict[str, Any] = field(default_factory=dict)
    backbone: str | None = None
    backbone_args: dict[str, Any] = field(default_factory=dict)
    backbone_weights: str | None = None
    attention: str = "none"
    attention_args: dict[str, Any] = field(default_factory=dict)
    attention_per_stage: dict[str, Any] = field(default_factory=dict)
    attention_init: Literal["auto", "authors", "identity"] = "auto"
    at: str | None = None
    checkpoint: str | None = None
    freeze_host: bool = False
    data: str = "scenes"
    data_args: dict[str, Any] = field(default_factory=dict)
    imgsz: int | None = None
    augment: Literal["none", "mirror", "light", "flip", "imagenet"] = "light"
    on_bad: Literal["stop", "skip"] = "stop"
    epochs: int = 20
    batch: int = 64
    accumulate: int = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.05
    block_lr: float | None = None
    head_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 4e-5
    schedule: Literal["cosine", "poly", "step", "constant"] = "cosine"
    step_epochs: int = 30
    milestones: list[float] | None = None
    step_factor: float = 0.1
    poly_power: float = 0.9
    warmup_epochs: float = 0.0
    warmup_steps: int | None = None
    warmup_start: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    clip_grad: float = 0.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    eval_every: int = 1
    save_minutes: float = 10.0
    keep: int = 2
    on_nonfinite: Literal["stop", "skip"] = "stop"
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    workers: int = 0
    deterministic: bool = False
    tensorboard: bool = True
    project: str = "runs"
    name: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        for each in dataclasses.fields(self):  # as a YAML file gives them back
            if isinstance(getattr(self, each.name), dict | list):
                object.__setattr__(self, each.name, plain(getattr(self, each.name)))
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ArgumentError(f"{name} must be greater than 0, got {getattr(self, name)!r}")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ArgumentError(f"{name} must be 0 or more, got {getattr(self, name)!r}")
        for name in FRACTIONS:
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} must lie in 0..1, got {getattr(self, name)!r}")
        for name in DECAYS:
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(
                    f"{name} must be 0 or more and below 1, got {getattr(self, name)!r}"
                )
        if not self.data:
            raise ArgumentError(f"data must be a source or a folder, got {self.data!r}")
        for name, least in (("imgsz", 8), ("threads", 1), ("warmup_steps", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ArgumentError(f"{name} must be {least} or more, got {value!r}")
        for name in ("block_lr", "head_lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ArgumentError(f"{name} must be greater than 0, got {value!r}")
        parse_inserts(self.attention, self.at)
        if self.keep < 1:
            raise ArgumentError(f"keep must be 1 or more, got {self.keep!r}")
        if self.accumulate > self.batch:
            raise ArgumentError(
                f"accumulate ({self.accumulate}) cannot be more than batch ({self.batch})"
            )
        if self.warmup_epochs > self.epochs:
            raise ArgumentError(
                f"warmup_epochs ({self.warmup_epochs:g}) cannot be more than epochs ({self.epochs})"
            )
        if self.warmup_epochs and self.warmup_steps is not None:
            raise ArgumentError(
                f"warmup_epochs ({self.warmup_epochs:g}) and warmup_steps ({self.warmup_steps}) "
                "both say how long the warm-up is; keep one"
            )
        if self.milestones is not None and not rising(self.milestones):
            raise ArgumentError(
                "milestones must be null or rising numbers of epochs, as [8, 11], got "
                f"{self.milestones!r}"
            )
        parts = None if self.name is None else PurePath(self.name).parts
        if parts == () or ".." in (parts or ()):
            raise ArgumentError(f"name must be of a folder in project, got {self.name!r}")
        if not 0 <= self.seed < 2**63:
            raise ArgumentError(f"seed must lie in 0..2**63-1, got {self.seed!r}")


@dataclass(frozen=True)
class CompareConfig:
    """A comparison: every block with every seed, all else equal.

    Args:
        blocks: blocks to compare; each is tested against "none".
        seeds: number of seeds, counted from the run's own `seed`.
        grid: further fields to vary, such as {lr: [0.1, 0.05]}.
        jobs: runs at the same time; null takes one per processor core (one on a GPU), each with
            one thread.
    """

    blocks: list[str] = field(default_factory=lambda: ["none", "se", "cbam", "eca", "ca"])
    seeds: int = 3
    grid: dict[str, list[Any]] = field(default_factory=dict)
    jobs: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if not self.blocks or len(set(self.blocks)) < len(self.blocks):
            raise ArgumentError(f"blocks must be distinct names, got {self.blocks!r}")
        if self.seeds < 1:
            raise ArgumentError(f"seeds must be 1 or more, got {self.seeds!r}")
        if self.jobs is not None and self.jobs < 1:
            raise ArgumentError(f"jobs must be 1 or more, got {self.jobs!r}")
        known = {f.name for f in dataclasses.fields(TrainConfig)}
        for key, values in self.grid.items():
            if key not in known:
                raise ArgumentError(f"grid has an unknown key {key!r}; {suggest(str(key), known)}")
            if key in ("attention", "seed", *PLACE):
                raise ArgumentError(
                    f"grid cannot vary {key!r}; blocks and seeds have options of their own, "
                    "and the rest does not change a result"
                )
            if not isinstance(values, list) or not values:
                raise ArgumentError(f"grid: {key} must have a list of values, got {values!r}")


def config_from_dict(values: dict[str, Any], where: str = "config") -> TrainConfig:
    """A configuration from plain values, as a YAML file or a checkpoint holds them.

    Raises:
        ArgumentError: an unknown key (the nearest is named), or a value out of range.
    """
    if not isinstance(values, dict):
        raise ArgumentError(f"{where} must hold names with values, got {values!r}")
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    for key in values:
        if key not in known:
            raise ArgumentError(f"{where} has an unknown key {key!r}; {suggest(str(key), known)}")
    return TrainConfig(**values)


def differences(old: TrainConfig, new: TrainConfig, ignored: Collection[str] = PLACE) -> list[str]:
    """Fields that would change the result, as "lr was 0.05, now 0.1"."""
    return [
        f"{f.name} was {getattr(old, f.name)!r}, now {getattr(new, f.name)!r}"
        for f in dataclasses.fields(TrainConfig)
        if f.name not in ignored and getattr(old, f.name) != getattr(new, f.name)
    ]
