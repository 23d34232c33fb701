"""The report page: one HTML file that needs nothing else, offline, on a desk, a phone or paper.

No script, no link, no font and no image from elsewhere; a content policy in the page's head makes
the browser hold that promise. The same input gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from convattn.compare.drawing import Style, styles
from convattn.compare.figures import accuracy_figure
from convattn.compare.page import (
    Picture,
    classes_of,
    count,
    escaped,
    how_made,
    pictures_of,
    section,
    table,
    table_row,
)
from convattn.compare.panels import Panel, cost_panels, curve_panels
from convattn.compare.records import Run
from convattn.compare.statistics import Comparison
from convattn.compare.table import as_grid, caption
from convattn.compare.verdicts import confidence_text, joined, metric_text
from convattn.core.files import write_atomic

__all__ = ["Picture", "render_report", "write_report"]


def write_report(
    path: str | Path,
    comparison: Comparison,
    runs: Sequence[Run],
    *,
    pictures: Sequence[Picture] = (),
    title: str = "Attention blocks compared",
    command: str | None = None,
    date: str | None = None,
    class_metric: str = "",
) -> Path:
    """Write the report page, whole or not at all.

    Args:
        path: The file to write; its folder is made if need be.
        comparison: What `compare_runs` found in `runs`.
        runs: The same runs.
        pictures: Shown after the figures.
        title: The page's heading.
        command: The command line that repeats the comparison.
        date: Shown at the foot if given; otherwise the page bears no date.
        class_metric: Which of the runs' scores of each class to show, if they have it.

    Returns:
        The path written.

    Raises:
        ArgumentError: A picture is not a PNG.
    """
    path = Path(path)
    page = render_report(
        comparison, runs, pictures=pictures, title=title, command=command, date=date,
        class_metric=class_metric,
    )  # fmt: skip
    write_atomic(path, page)
    return path


def render_report(
    comparison: Comparison,
    runs: Sequence[Run],
    *,
    pictures: Sequence[Picture] = (),
    title: str = "Attention blocks compared",
    command: str | None = None,
    date: str | None = None,
    class_metric: str = "",
) -> str:
    """The page of `write_report` as text."""
    c = comparison
    looks = styles([v.label for v in c.variants], [v.label for v in c.variants if _is_base(c, v)])
    sections = [
        _result(c, looks),
        _accuracy(c, looks),
        _panels(
            "cost",
            f"{_name(c)} against cost",
            _cost_text(c),
            cost_panels(c, looks),
        ),
        _panels("training", "Training", _CURVES, curve_panels(c, runs, looks)),
        classes_of(c, runs, class_metric),
        pictures_of(pictures),
        how_made(c, runs, command),
    ]
    css = resources.files("convattn.compare").joinpath("report.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; img-src data:">
<title>{escaped(title)}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
{_header(c, runs, title)}
<main>
{"".join(filter(None, sections))}</main>
<footer>Made by convattn{f" on {escaped(date)}" if date else ""}.</footer>
</body>
</html>
"""


def _is_base(c: Comparison, v: Any) -> bool:
    return c.baseline in (v.label, *v.cell.values())


def _name(c: Comparison) -> str:
    name = metric_text(c)
    name = f"{name} accuracy" if name.startswith("top-") else name
    return name if name[1].isupper() else name[0].upper() + name[1:]  # mAP, mIoU


def _header(c: Comparison, runs: Sequence[Run], title: str) -> str:
    data, seeds = runs[0].data, {run.seed for run in runs}
    facts = [
        escaped(runs[0].config.get("task", "")),
        escaped(data["name"]) if data.get("name") else "",
        count(data["train"], "training image") if isinstance(data.get("train"), int) else "",
        count(data["test"], "test image") if isinstance(data.get("test"), int) else "",
        count(len(c.variants), "variant"),
        count(len(seeds), "seed"),
    ]
    first, *rest = c.verdicts
    findings = "".join(f"<li>{_finding(line)}</li>\n" for line in rest)
    notes = "".join(f"<p>Note: {escaped(line)}</p>\n" for line in c.notes)
    return f"""<header>
<p class="kicker">{" · ".join(filter(None, facts))}</p>
<h1>{escaped(title)}</h1>
<p class="lead">{escaped(first)}</p>
{f'<ul class="findings">{findings}</ul>' if rest else ""}
{f'<div class="notes">{notes}</div>' if notes else ""}
</header>"""


def _finding(line: str) -> str:
    return re.sub(r"( \(.*\))(\.?)$", r'<span class="evidence">\1</span>\2', escaped(line))


def _swatch(look: Style) -> str:
    return f'<span class="swatch" style="--swatch:var(--{look.variable})"></span>'


def _soft(text: str) -> str:
    """A cell with its uncertainty in the quieter ink."""
    return re.sub(r"( ± .*| \(.*\))$", r'<span class="aside">\1</span>', escaped(text))


def _result(c: Comparison, looks: Mapping[str, Style]) -> str:
    grid = as_grid(c)
    rows = [
        table_row(
            [_swatch(looks[row[0]]) + escaped(row[0]), *map(_soft, row[1:])],
            "tier" if position in grid.breaks else "",
        )
        for position, row in enumerate(grid.rows)
    ]
    below = [table_row([escaped(cell).replace("–", "") for cell in row]) for row in grid.references]
    bodies = [("", rows), *([("references", below)] if below else [])]
    grid_html = table(grid.columns, bodies, "main-table")
    note = f"<figcaption>{escaped(caption(c))}</figcaption>"
    return section("result", "Result", "", f'<figure class="card">{grid_html}{note}</figure>')


def _accuracy(c: Comparison, looks: Mapping[str, Style]) -> str:
    text = (
        f"Small dots are seeds, the large mark is their mean, the bar its {confidence_text(c)} "
        "interval. Bars that overlap are not told apart."
    )
    if c.references:
        text += f" The strip above shows the whole scale with {escaped(joined(c.references))}."
    wide, narrow = (accuracy_figure(c, looks, narrow=flag) for flag in (False, True))
    body = (
        f'<figure class="card"><div class="only-wide">{wide}</div>\n'
        f'<div class="only-narrow">{narrow}</div></figure>'
    )
    return section("accuracy", f"{_name(c)}, every seed", text, body)


def _cost_text(c: Comparison) -> str:
    return (
        f"{'Up' if c.higher_is_better else 'Down'} and to the left is better. Filled marks lie on "
        "the Pareto front of the means: no other variant is both cheaper and better. Bars are the "
        f"intervals; where they overlap, the front is not certain.{_counted_on(c)}"
    )


def _counted_on(c: Comparison) -> str:
    """On which input all were counted and timed."""
    kinds = {(v.cost.input_size, v.cost.load) for v in c.variants}
    size, load = kinds.pop()
    if kinds or size is None:
        return ""
    sides = "x".join(map(str, size[2:]))
    return f" Costs are of one image of {sides} pixels{load and f', with {escaped(load)}'}."


_CURVES = "Lines are means over seeds, bands reach from the lowest seed to the highest."


def _panels(name: str, heading: str, text: str, panels: Sequence[Panel]) -> str:
    if not panels:
        return ""
    figures = "".join(f"<figure><h3>{escaped(p.title)}</h3>{p.svg}</figure>\n" for p in panels)
    kind = "three" if name == "cost" else "two"
    body = f'<div class="card"><div class="panels {kind}">{figures}</div></div>'
    return section(name, heading, text, body)
