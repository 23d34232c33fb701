"""The verbs that look at something and print: lists, costs, tables, gates, findings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from convattn.core.errors import ArgumentError

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "show_audit",
    "show_cost",
    "show_findings",
    "show_gates",
    "show_list",
    "show_tables",
]


def show_list(options: dict[str, Any]) -> int:
    """Blocks, networks, sources or recipes."""
    console = Console()
    if options["what"] in ("models", "hosts"):
        from convattn.models import list_hosts, list_models

        names = list_models() if options["what"] == "models" else list_hosts()
        console.print("\n".join(names), highlight=False, soft_wrap=True)
    elif options["what"] == "sources":
        from convattn.authors import list_sources

        console.print("\n".join(list_sources()), highlight=False, soft_wrap=True)
    elif options["what"] == "recipes":
        from convattn.cli.recipes import described

        width = max(len(name) for name, _ in described())
        lines = [f"{name:<{width}}  {text}" for name, text in described()]
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
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


def show_cost(options: dict[str, Any]) -> int:
    """What a network costs, and its blocks beside it without."""
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


def show_tables(options: dict[str, Any]) -> int:
    """The papers' tables beside what is recomputed."""
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


def show_gates(options: dict[str, Any]) -> int:
    """A picture of a trained network's gates."""
    from convattn.core.files import write_atomic
    from convattn.tasks.gates import gate_picture

    png = gate_picture(options["checkpoint"], data=options["data"], count=options["count"])
    write_atomic(options["out"], png)
    print(f"gates: {Path(options['out']).resolve()}")
    return 0


def show_findings(options: dict[str, Any]) -> int:
    """What will hurt in a network; 1 if anything was found. Without one, what blocks run on."""
    from convattn.doctor import doctor, installation

    if options["model"] is None:
        if options["attention"] != "none" or options["images"]:
            raise ArgumentError(
                "--attention and --images are of a network: convattn doctor MODEL, where MODEL is "
                "one of `convattn list models`, or the weights file or folder of a run"
            )
        print(installation())
        return 0
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


def show_audit(options: dict[str, Any]) -> int:
    """Where somebody's block differs; 1 if anywhere."""
    from convattn.doctor import audit

    report = audit(
        options["target"],
        options["as"],
        arguments=options["arguments"],
        attention_args=options["attention_args"],
    )
    print(report)
    return 0 if report.ok else 1
