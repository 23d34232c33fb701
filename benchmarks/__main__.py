"""Run a suite and write benchmarks/results/SUITE.json.

    python -m benchmarks blocks --against eager,compile,timm
    python -m benchmarks training --blocks ca,se --batch 1,16
    python -m benchmarks models --blocks ca --batch 1
    python -m benchmarks blocks --blocks se --batch 1 --maps 384,960 --merge
    python -m benchmarks scaling
    python -m benchmarks gpu
    python -m benchmarks docs

Ratios hold within a run, whose subjects take turns; those of the fastest samples say most on a
machine that does other things too. "copy" is `copy_` of the map into memory that is there already.
`docs` draws and tabulates what lies in results/ for docs/operators.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import gpu
from benchmarks.peers import PEERS
from benchmarks.suites import FORMATS, GRID, SUITES
from benchmarks.tables import fill
from convattn import ops
from convattn.core.environment import environment

SUITES["gpu"] = gpu
RESULTS = Path(__file__).with_name("results")
DOCS = Path(__file__).parents[1] / "docs"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print each row, write them all."""
    parser = argparse.ArgumentParser(
        prog="benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", choices=[*SUITES, "docs"])
    parser.add_argument("--against", type=_names, default=["eager"], help=f"of {', '.join(PEERS)}")
    parser.add_argument("--blocks", type=_names, default=["ca"])
    parser.add_argument(
        "--batch", type=lambda text: [int(n) for n in _names(text)], default=[1, 16]
    )
    parser.add_argument(
        "--maps",
        type=lambda text: [int(n) for n in _names(text)],
        default=[channels for channels, _ in GRID],
        help="those of the grid with so many channels",
    )
    parser.add_argument("--formats", type=_names, default=[*FORMATS])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.3, help="for each row")
    parser.add_argument("--out", type=Path, help="results/SUITE.json by default")
    parser.add_argument(
        "--merge", action="store_true", help="keep the rows of that file that are not measured anew"
    )
    options = parser.parse_args(arguments)
    if options.suite == "docs":
        from benchmarks.plots import draw  # needs matplotlib

        for suite in ("blocks", "training", "models"):
            if not (found := RESULTS / f"{suite}.json").exists():
                parser.error(f"there is no {found}; python -m benchmarks {suite} writes it")
        for suite, name in {"blocks": "evaluation", "training": "training"}.items():
            draw(RESULTS / f"{suite}.json", DOCS / f"operators_{name}.png")
        page = DOCS / "operators.md"
        page.write_text(fill(page.read_text(), RESULTS))
        return 0
    if unknown := set(options.against) - set(PEERS):
        parser.error(f"--against knows {', '.join(PEERS)}, not {', '.join(sorted(unknown))}")
    if options.suite == "gpu" and not torch.cuda.is_available():
        parser.error("the suite gpu needs a CUDA GPU, and PyTorch finds none")
    torch.set_num_threads(options.threads)
    out = options.out or RESULTS / f"{options.suite}.json"
    machine = environment("cuda" if options.suite == "gpu" else "cpu")
    rows = _rows(out, machine) if options.merge and out.exists() else {}
    try:
        for row in SUITES[options.suite](options):
            rows[_key(row)] = row | {"commit": machine["commit"]}
            ratios = "  ".join(f"{k} {v:.2f}" for k, v in row["ratio_of_fastest"].items())
            print(row["block"], *row["shape"], row.get("format", ""), ratios, flush=True)
    finally:  # what is measured is kept, whatever comes between
        if rows:
            _write(out, options.suite, machine, [*rows.values()])
    return 0


def _write(out: Path, suite: str, machine: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    summary = _means(rows)
    for name, value in summary.items():
        print(f"{name}: {value:.2f}")
    found = {
        "suite": suite,
        "machine": machine,
        "operators": ops.kernels(),
        "load_average": os.getloadavg(),
        "geometric_means": summary,
        "rows": rows,
    }
    out.write_text(json.dumps(found, indent=1) + "\n")


def _names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["block"], *row["shape"], row.get("format"), row.get("training")


def _rows(file: Path, machine: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The rows of an earlier run on the same machine with the same versions, at any commit."""
    found = json.loads(file.read_text())
    if found["machine"] | {"commit": ""} != json.loads(json.dumps(machine)) | {"commit": ""}:
        raise SystemExit(f"{file} is of another machine, other versions or threads; use --out")
    return {_key(row): row for row in found["rows"]}


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric means of the ratios over the rows, for each block."""
    values = defaultdict(list)
    for row in rows:
        for of in ("ratio", "ratio_of_fastest"):
            for name, value in row[of].items():
                values[f"{row['block']} {of} {name}"].append(value)
    return {name: statistics.geometric_mean(found) for name, found in values.items()}


if __name__ == "__main__":
    sys.exit(main())
