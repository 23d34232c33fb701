"""Pieces of HTML that the report is put together from, and its section on how it was made.

Whatever comes from a user goes through `escaped` before it reaches a page.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convattn.compare.records import Run, flatten
from convattn.compare.statistics import Comparison
from convattn.compare.verdicts import joined, value_text
from convattn.core.errors import ArgumentError
from convattn.core.names import metric_name

__all__ = [
    "Picture", "classes_of", "count", "escaped", "how_made", "pictures_of", "section", "table",
    "table_row",
]  # fmt: skip

_PNG = b"\x89PNG\r\n\x1a\n"

_MANY = 24  # from so many classes on the table is folded up


@dataclass(frozen=True)
class Picture:
    """A PNG to show in the page, with its title and caption.

    Attributes:
        wide: Give it the whole width of the page instead of a column.
    """

    title: str
    caption: str
    png: bytes
    wide: bool = False


def escaped(value: object) -> str:
    """Any value as HTML text, escaped."""
    return html.escape(str(value))


def count(number: int, word: str) -> str:
    """`1 seed`, `2,000 images`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def section(name: str, heading: str, intro: str, body: str) -> str:
    """A section of ready HTML under a plain heading."""
    opening = f"<p>{intro}</p>\n" if intro else ""
    return (
        f'<section id="{name}" aria-labelledby="{name}-heading">\n'
        f'<h2 id="{name}-heading">{escaped(heading)}</h2>\n{opening}{body}\n</section>\n'
    )


def table(
    head: Sequence[str], bodies: Iterable[tuple[str, Sequence[tuple[str, str]]]], kind: str = ""
) -> str:
    """A table of ready HTML cells: bodies of `(class, rows)`, rows of `(class, cells)`."""
    columns = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    parts = [f"<tbody{_css(name)}>{''.join(r for _, r in rows)}</tbody>" for name, rows in bodies]
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table{_css(kind)}>'
        f"<thead><tr>{columns}</tr></thead>\n{''.join(parts)}</table></div>"
    )


def _css(name: str) -> str:
    """A class attribute, or nothing."""
    return f' class="{name}"' if name else ""


def table_row(cells: Sequence[str], kind: str = "") -> tuple[str, str]:
    """A row for `table`: ready HTML cells, the first of which names the row."""
    first, *rest = cells
    inner = f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest)
    return kind, f"<tr{_css(kind)}>{inner}</tr>\n"


def _facts(heading: str, facts: Iterable[tuple[str, object]]) -> str:
    items = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts)
    return f"<div><h3>{escaped(heading)}</h3><dl>{items}</dl></div>" if items else ""


def _merged(runs: Sequence[Run], field: str) -> list[tuple[str, str]]:
    """The flattened field of all runs; values that differ are listed."""
    flat = [dict(flatten(getattr(run, field))) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    return [
        (name, " / ".join(dict.fromkeys(_plain(one[name]) for one in flat if name in one)))
        for name in names
    ]


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"{len(value)}: {', '.join(map(str, value))}" if value else "none"
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def classes_of(c: Comparison, runs: Sequence[Run], metric: str) -> str:
    """The section with the scores of each class, means over seeds; "" without any."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for name, scores in run.by_class.items():
            if metric in scores:
                found.setdefault(name, {}).setdefault(run.label, []).append(scores[metric])
    if not found:
        return ""
    labels = [v.label for v in c.variants]
    rows = [
        table_row([
            escaped(name),
            *(value_text(c, sum(x) / len(x)) if (x := own.get(label)) else "–" for label in labels),
        ])
        for name, own in found.items()
    ]  # fmt: skip
    unit = ", %" if c.percent else ""
    name = metric_name(metric).replace("mAP", "AP")  # the mean is over the classes
    body = table(["class", *labels], [("", rows)])
    if len(rows) > _MANY:
        body = f"<details><summary>All {count(len(rows), 'class')}es</summary>{body}</details>"
    text = "Means over seeds; a dash where the score is not defined."
    return section(
        "classes", f"{name} of each class{unit}", text, f'<div class="card">{body}</div>'
    )


def pictures_of(pictures: Sequence[Picture]) -> str:
    """The section with the pictures; "" without any."""
    if not pictures:
        return ""
    parts = []
    for picture in pictures:
        if not picture.png.startswith(_PNG):
            raise ArgumentError(f"picture {picture.title!r} is not a PNG file")
        data = base64.b64encode(picture.png).decode()
        alt = f"{picture.title}. {picture.caption}"
        parts.append(
            f"<figure{_css('wide' if picture.wide else '')}>"
            f'<img src="data:image/png;base64,{data}" alt="{escaped(alt)}">'
            f"<figcaption><h3>{escaped(picture.title)}</h3>{escaped(picture.caption)}</figcaption></figure>\n"
        )
    return section(
        "pictures", "On test images", "", f'<div class="pictures">{"".join(parts)}</div>'
    )


def how_made(c: Comparison, runs: Sequence[Run], command: str | None) -> str:
    """The section that lets a reader repeat and check the comparison."""
    again = f"<h3>Repeat it</h3><pre><code>{escaped(command)}</code></pre>" if command else ""
    facts = "".join(
        _facts(heading, _merged(runs, field))
        for heading, field in (
            ("Recipe", "config"),
            ("Data", "data"),
            ("Environment", "environment"),
        )
    )
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    order = {v.label: position for position, v in enumerate(c.variants)}
    rows = [
        table_row(
            [
                escaped(run.label),
                str(run.seed),
                *(f"{run.metrics[n]:.4f}" if n in run.metrics else "–" for n in names),
                f"{run.seconds:.1f}",
            ]
        )
        for run in sorted(runs, key=lambda run: (order.get(run.label, 0), run.seed))
    ]
    every_run = table(["run", "seed", *names, "seconds"], [("", rows)])
    varied = escaped(joined(c.varied) or "nothing")
    words = (
        "Every variant was trained with the same recipe and, for each seed, the same order of "
        f"the same data; only {varied} was varied. Intervals are Student's t over seeds. Tests "
        "are paired t-tests on common seeds with Holm's correction."
    )
    body = (
        f'{again}<div class="facts">{facts}</div>\n'
        f"<details><summary>All {count(len(runs), 'run')}</summary>{every_run}</details>"
    )
    return section("how", "How it was made", words, body)
