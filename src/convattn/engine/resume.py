"""What a checkpoint holds, and whether a run may go on from it."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import shorten
from typing import Any

from convattn.core.config import MOVED, TrainConfig, config_from_dict, differences
from convattn.core.environment import environment
from convattn.core.errors import ArgumentError, CheckpointError
from convattn.core.protocols import Reporter, Task
from convattn.engine.run import RunFolder
from convattn.engine.state import TrainState

__all__ = ["check_fits", "resume", "to_keep"]


def to_keep(state: TrainState, config: TrainConfig, task: Task, device: str) -> dict[str, Any]:
    """The state, and what must be the same when it is resumed."""
    return {
        **state.dump(),
        "config": asdict(config),
        "fingerprint": task.fingerprint,
        "bits": _bits(device),
    }


def resume(
    state: TrainState,
    run: RunFolder,
    config: TrainConfig,
    task: Task,
    device: str,
    reporter: Reporter,
) -> None:
    """Continue from the run's newest readable checkpoint, if there is one that fits.

    Raises:
        CheckpointError: it is of another configuration, other data, or another network.
    """
    saved, problems = run.latest()
    for problem in problems:
        reporter.note(problem)
    if saved is None:
        return
    check_fits(saved, run, config, task)
    for fact, value in _bits(device).items():
        if saved["bits"][fact] != value:
            reporter.note(
                f"the checkpoint was made with {fact} {saved['bits'][fact]}, this is {value}; "
                "results will not be bit-identical"
            )
    try:
        state.load(saved)
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"cannot resume {run.path}: its state does not fit this network or optimiser "
            f"({shorten(str(error), 300)})"
        ) from error


def check_fits(saved: dict[str, Any], run: RunFolder, config: TrainConfig, task: Task) -> None:
    """Raise `CheckpointError` for a state of another configuration or of other data."""
    try:
        made_with = config_from_dict(saved["config"], "its configuration")
        changed = differences(made_with, config, MOVED)
    except (ArgumentError, KeyError) as error:
        raise CheckpointError(
            f"cannot resume {run.path}: made by another version of convattn ({error})"
        ) from error
    if saved["fingerprint"] != task.fingerprint:
        changed.append("the data are not those of the checkpoint")
    if changed:
        raise CheckpointError(
            f"cannot resume {run.path}: {'; '.join(changed)}. Resume without these "
            "changes, or start another run under another --name."
        )


def _bits(device: str) -> dict[str, Any]:
    """What decides whether a continued run is bit-identical."""
    facts = environment(device)
    return {k: facts[k] for k in ("processor", "threads", "device", "versions")}
