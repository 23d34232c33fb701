"""What each verb does: call one function of a floor below and print."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from convattn.cli.parser import compare_config, train_config
from convattn.core.config import TrainConfig, differences
from convattn.core.errors import (
    ArgumentError,
    CheckpointNotFoundError,
    ConvattnError,
    DataNotFoundError,
    MissingExtraError,
)
from convattn.core.names import metric_name

if TYPE_CHECKING:
    from torch import nn

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


def _list(options: dict[str, Any]) -> int:
    console = Console()
    if options["what"] in ("models", "hosts"):
        from convattn.models import list_hosts, list_models

        names = list_models() if options["what"] == "models" else list_hosts()
        console.print("\n".join(names), highlight=False, soft_wrap=True)
    elif options["what"] == "sources":
        from convattn.authors import list_sources

        console.print("\n".join(list_sources()), highlight=False, soft_wrap=True)
    else:
        from rich.table import Table

        from convattn.blocks import block_class, block_names

        table = Table("block", "family", "year", "what it does", box=None, header_style="bold")
        for name in block_names():
            block = block_class(name)
            year = str(block.info.year or "")
            table.add_row(name, block.family, year, block.info.summary)
        console.print(table)
    return 0


def _train(options: dict[str, Any]) -> int:
    from convattn.engine.reporters import ConsoleReporter
    from convattn.engine.run import RunFolder
    from convattn.tasks.train import train

    config = train_config(options)
    if options["resume"]:
        folder = RunFolder(options["resume"])
        config = _resumed(folder.config(), config, options["given"])
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


def _resumed(old: TrainConfig, config: TrainConfig, given: list[str]) -> TrainConfig:
    """The run's own configuration; options on the line may change only what no result shows."""
    values = {k: getattr(config, k) for k in given if hasattr(config, k)}
    new = replace(old, **values)
    changed = differences(old, new)
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
    values = [f"{k} {100 * v:.2f} %" for k, v in metrics.items() if "loss" not in k]
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


def _cost(options: dict[str, Any]) -> int:
    from torch import cuda

    from convattn.cost import cost
    from convattn.cost.marginal import block_table, marginal_table, measure_blocks, measure_pair
    from convattn.models import create_model

    size, console, device = tuple(options["input_size"]), Console(), options["device"]
    if device == "cuda" and not cuda.is_available():
        raise ArgumentError("there is no CUDA device here; measure with --device cpu")
    attended = options["attention"] != "none" or options["at"] is not None
    name, arguments = options["model"], options["model_args"]
    plain = create_model(name, **arguments).to(device)
    model = _network(options).to(device) if attended else plain
    counted = cost(model, size, convention=options["convention"])
    if options["per_layer"]:
        console.print(counted.as_table())
        return 0
    without = cost(plain, size, convention=options["convention"]) if attended else counted
    pair, blocks = None, {}
    if options["measure"]:
        with console.status("measuring latency and memory"):
            pair = measure_pair(plain, model, size, threads=options["threads"])
            if options["per_block"]:
                blocks = measure_blocks(model, counted, threads=options["threads"])
    if attended:
        titles = (name, f"with {options['attention']}")
        console.print(marginal_table(without, counted, pair, titles=titles))
    print(counted.summary(totals=not attended))
    if pair:
        print(f"latency      {pair[1][0]}\nmemory       {pair[1][1]}")
    if options["per_block"]:
        console.print(block_table(counted, blocks))
    return 0


def _tables(options: dict[str, Any]) -> int:
    import json

    from rich.progress import track

    from convattn.tables import published, recompute
    from convattn.tables.report import rendered, summary

    rows = published(options["paper"], options["model"])
    console, status = Console(), options["status"]
    watched = track(
        rows, "recomputing", console=Console(stderr=True), transient=True,
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
    found = [recompute(row) for row in watched]
    shown = [result for result in found if status in (None, result.status)]
    if options["json"]:
        print(json.dumps([result.as_dict() for result in shown], indent=1, ensure_ascii=False))
    else:
        for part in rendered(shown):
            console.print(part)
        print("scores are as published; none is measured here")
        print(summary(found))
    wrong = [result for result in found if result.contradicts]
    for result in wrong:
        print(f"not as recorded: {result.row.table}, {result.row.model}, {result.row.attention}",
              file=sys.stderr)  # fmt: skip
    return 1 if wrong else 0


def _explain(options: dict[str, Any]) -> int:
    from convattn.core.files import write_atomic
    from convattn.tasks.gates import gate_picture

    png = gate_picture(options["checkpoint"], data=options["data"], count=options["count"])
    write_atomic(options["out"], png)
    print(f"gates: {Path(options['out']).resolve()}")
    return 0


def _doctor(options: dict[str, Any]) -> int:
    from convattn.doctor import doctor

    if options["images"]:
        from convattn.tasks.gates import network_and_images

        if not Path(options["model"]).exists():
            raise ArgumentError(
                f"--images takes the test images of a run: give its weights file or folder, got "
                f"{options['model']!r}; without --images it is run on noise"
            )
        model, images = network_and_images(
            options["model"], data=options["data"], count=options["images"]
        )
        report = doctor(model, images=images)
    else:
        report = doctor(_network(options), tuple(options["input_size"]))
    print(report)
    return 0 if report.ok else 1


def _network(options: dict[str, Any]) -> nn.Module:
    """A network by name, or rebuilt from a weights file."""
    from convattn.models import create_model, list_models

    if options["model"] not in list_models() and Path(options["model"]).exists():
        from convattn.tasks.kinds import restore

        return restore(options["model"])[0]
    return create_model(
        options["model"],
        attention=options["attention"],
        at=options["at"],
        attention_args=options["attention_args"],
        **options["model_args"],
    )


def _audit(options: dict[str, Any]) -> int:
    from convattn.doctor import audit

    report = audit(
        options["target"],
        options["as"],
        arguments=options["arguments"],
        attention_args=options["attention_args"],
    )
    print(report)
    return 0 if report.ok else 1


def _data(options: dict[str, Any]) -> int:
    from rich.progress import Progress

    from convattn.data.check import check_data

    given = options[options["what"]]
    with Progress(console=Console(stderr=True), transient=True) as bar:
        work = bar.add_task("reading")
        reports = check_data(
            given["source"],
            given["task"],
            lambda done, total: bar.update(work, completed=done, total=total),
            **given["data_args"],
        )
    print("\n".join(map(str, reports)))
    found = any(report.defects for report in reports)
    return 1 if found and given["on_bad"] == "stop" else 0


def _command(verb: str) -> str:
    """The line that repeats this, without the path of the program."""
    return shlex.join(["convattn", *sys.argv[1:]]) if len(sys.argv) > 1 else f"convattn {verb}"


_VERBS: dict[str, Callable[[dict[str, Any]], int]] = {
    "list": _list,
    "train": _train,
    "eval": _eval,
    "compare": _compare,
    "cost": _cost,
    "tables": _tables,
    "explain": _explain,
    "demo": _demo,
    "doctor": _doctor,
    "audit": _audit,
    "data": _data,
}
