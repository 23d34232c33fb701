"""What each verb does: call one function of a floor below and print; here those that train."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convattn.cli import look
from convattn.cli.data import look_after_data
from convattn.cli.parser import compare_config, train_config
from convattn.core.config import MOVED, PLACE, TrainConfig, differences
from convattn.core.errors import (
    ArgumentError,
    CheckpointNotFoundError,
    ConvattnError,
    DataNotFoundError,
    MissingExtraError,
)
from convattn.core.names import metric_name

if TYPE_CHECKING:
    from convattn.engine.run import RunFolder

__all__ = ["run"]

WRONG_ARGUMENTS = (ArgumentError, CheckpointNotFoundError, DataNotFoundError, MissingExtraError)


def run(verb: str, options: dict[str, Any]) -> int:
    """Carry a verb out; 0 ok, 1 the work failed, 2 wrong arguments, 128 + n stopped by signal n."""
    from convattn.engine.signals import Interrupted

    try:
        return _VERBS[verb](options)
    except WRONG_ARGUMENTS as error:
        print(f"convattn {verb}: {error}", file=sys.stderr)
        return 2
    except (ConvattnError, OSError) as error:
        print(f"convattn {verb}: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(f"convattn {verb}: {error}", file=sys.stderr)
        return 128 + error.number
    except KeyboardInterrupt:
        print(f"convattn {verb}: stopped; the same command goes on", file=sys.stderr)
        return 130


def _train(options: dict[str, Any]) -> int:
    from convattn.engine.reporters import ConsoleReporter
    from convattn.engine.run import RunFolder
    from convattn.tasks.train import train

    config = train_config(options)
    if options["resume"]:
        folder = RunFolder(options["resume"])
        config = _resumed(folder, config, options["given"])
    else:
        folder = RunFolder.new(config)
    with ConsoleReporter() as reporter:
        summary = train(config, folder, reporter)
    if summary:
        best = summary["best"]
        metric, value = summary["metric"], summary["best"][summary["metric"]]
        print(
            f"best {metric_name(metric)} {100 * value:.2f} % in epoch {best['epoch']}: "
            f"{folder.path}"
        )
    return 0


def _resumed(folder: RunFolder, config: TrainConfig, given: list[str]) -> TrainConfig:
    """The run's own configuration; options on the line may change only what no result shows."""
    old = folder.config()
    values = {k: getattr(config, k) for k in given if hasattr(config, k)}
    new = replace(old, **values)
    # without a checkpoint there is no fingerprint to compare with
    changed = differences(old, new, MOVED if folder.begun() else PLACE)
    for name in ("project", "name"):  # the folder is given already
        if getattr(old, name) != getattr(new, name):
            changed.append(f"{name} was {getattr(old, name)!r}, now {getattr(new, name)!r}")
    if changed:
        raise ArgumentError(
            f"cannot resume with other options: {'; '.join(changed)}. Leave them out, or start "
            "another run."
        )
    return new


def _eval(options: dict[str, Any]) -> int:
    from convattn.tasks.train import evaluate

    found = evaluate(
        options["checkpoint"],
        data=options["data"],
        batch=options["batch"],
        device=options["device"],
    )
    metrics = found["metrics"]
    values = [f"{metric_name(k)} {100 * v:.2f} %" for k, v in metrics.items() if "loss" not in k]
    values += [f"{k} {v:.4f}" for k, v in metrics.items() if "loss" in k]
    print(f"{found['data']}, {found['images']} images: {', '.join(values)}")
    return 0


def _compare(options: dict[str, Any], verb: str = "compare") -> int:
    from convattn.compare.compare import compare
    from convattn.compare.progress import GridProgress
    from convattn.compare.table import print_comparison

    base, grid = train_config(options), compare_config(options)
    with GridProgress() as progress:
        found, report, failed = compare(base, grid, progress, command=_command(verb))
    print_comparison(found)
    print(f"report: {Path(report).resolve()}")
    for key, error in failed.items():
        print(f"failed: {key}: {error}", file=sys.stderr)
    return 1 if failed else 0


def _demo(options: dict[str, Any]) -> int:
    return _compare(options, "demo")


def _command(verb: str) -> str:
    """The line that repeats this, without the path of the program."""
    return shlex.join(["convattn", *sys.argv[1:]]) if len(sys.argv) > 1 else f"convattn {verb}"


_VERBS: dict[str, Callable[[dict[str, Any]], int]] = {
    "list": look.show_list,
    "train": _train,
    "eval": _eval,
    "compare": _compare,
    "cost": look.show_cost,
    "tables": look.show_tables,
    "explain": look.show_gates,
    "demo": _demo,
    "doctor": look.show_findings,
    "audit": look.show_audit,
    "data": look_after_data,
}
