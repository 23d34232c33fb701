"""Device, precision and processes of a run, through Lightning Fabric."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

import torch

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError, CheckpointError, DataError
from convattn.core.names import require

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["check_alike", "check_device", "check_launch", "launch"]


def check_launch(config: TrainConfig) -> None:
    """What `launch` would refuse, to be asked before anything is written."""
    require("lightning.fabric", "train")
    if config.tensorboard:
        require("tensorboard", "train")
    check_device(config.device)
    world = int(os.environ.get("WORLD_SIZE", 1))
    if config.batch < world:
        raise ArgumentError(f"batch ({config.batch}) is smaller than the {world} processes")


def check_device(device: str) -> None:
    """Raise `ArgumentError` for "cuda" where there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("device is 'cuda', but PyTorch finds no GPU here; use 'cpu' or 'auto'")


def launch(config: TrainConfig) -> Fabric:
    """Join the processes that torchrun started, or be the only one; set threads and determinism.

    Raises:
        ArgumentError: a device that this machine does not have, or a batch smaller than the
            number of processes.
        MissingExtraError: Lightning is not installed.
    """
    check_launch(config)
    fabric = require("lightning.fabric", "train")
    for part in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(part).setLevel(logging.ERROR)
    kind = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    world = int(os.environ.get("WORLD_SIZE", 1))
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(config.deterministic)
    chosen: dict[str, Any] = {"precision": "32-true"}
    if config.precision != "fp32":
        chosen = {"plugins": [_mixed(config.precision, kind)]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on clusters that does not concern the user
        if world > 1:
            _meet("nccl" if kind == "cuda" else "gloo")
        made = fabric.Fabric(
            accelerator=kind,
            devices=local,
            num_nodes=world // local,
            strategy="ddp" if world > 1 else "auto",
            **chosen,
        )
        made.launch()
    return made


def _meet(backend: str) -> None:
    """Join torchrun's processes, those of this start alone; Fabric takes the group as it is.

    torchrun keeps one store for all its restarts (PyTorch 2.15), in which a restarted process
    otherwise finds the addresses of those that are gone.
    """
    from torch.distributed import distributed_c10d as groups
    from torch.distributed.rendezvous import rendezvous

    start = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if start is None or groups.is_initialized():
        return
    store, rank, world = next(iter(rendezvous("env://")))
    groups.init_process_group(
        backend, store=groups.PrefixStore(f"start {start}", store), rank=rank, world_size=world
    )


def check_alike(fabric: Fabric, fingerprint: str, step: int) -> None:
    """Stop all processes if one has other data, or goes on from another step, than the first.

    Raises:
        DataError, CheckpointError: in every process.
    """
    first = fabric.broadcast((fingerprint, step))
    differ = torch.tensor([fingerprint != first[0], step != first[1]], dtype=torch.float64)
    data, steps = torch.as_tensor(fabric.all_reduce(differ, reduce_op="max")).tolist()
    if data:
        raise DataError(
            "the processes have different data: every machine needs the same files under --data"
        )
    if steps:
        raise CheckpointError(
            f"the processes go on from different steps, the first from {first[1]}, this one from "
            f"{step}: the run's folder must be on a disc that all machines share"
        )


def _mixed(precision: str, kind: str) -> Any:
    """Mixed precision; of fp16 on the CPU too, where Fabric by itself would silently take bf16."""
    base: Any = require("lightning.fabric.plugins.precision", "train").MixedPrecision

    class Mixed(base):
        def convert_input(self, data: Any) -> Any:
            """As it is: autocast rounds what an operator takes, Fabric would round boxes too."""
            return data

    if precision == "bf16":
        return Mixed("bf16-mixed", kind)
    return Mixed("16-mixed", kind, torch.amp.GradScaler(kind))
