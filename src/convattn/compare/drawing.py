"""Drawing helpers: one look for all figures, SVG that follows the page's colours, label placing.

Figures are `matplotlib.figure.Figure` objects, never pyplot's global ones. Their SVG goes inline
into the page: every colour becomes a CSS variable (so light, dark and print each get their own)
and every text stays text, set in the page's own typeface.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from convattn.core.names import require

__all__ = [
    "CARD",
    "GRID",
    "INK",
    "MUTED",
    "Box",
    "Style",
    "axes_look",
    "new_figure",
    "place_labels",
    "shortened",
    "spread",
    "styles",
    "svg",
    "text_size",
    "ticks",
]

# Fallbacks of the CSS variables in report.css; also the colours an extracted SVG has.
INK, MUTED, GRID, CARD = "#1b1f24", "#646c76", "#e3e6ea", "#ffffff"

# Told apart under the three common colour-vision deficiencies (after Okabe and Ito, darkened
# until each stands 3:1 against white); shape and dash repeat what colour says.
_SERIES = ("#0072b2", "#d55e00", "#00855f", "#a3459a", "#b07a00", "#2f93cf", "#8c2d4f")
_NEUTRAL = "#5d6670"
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_DASHES = ("-", (0, (5, 1.4)), (0, (1.4, 1.2)))

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels

_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    CARD: "card",
    _NEUTRAL: "s0",
    **{colour: f"s{i}" for i, colour in enumerate(_SERIES, 1)},
}


class Style:
    """How one variant looks in every figure and in the legend."""

    def __init__(self, index: int, *, neutral: bool = False) -> None:
        cycle = index % len(_SERIES)
        self.colour = _NEUTRAL if neutral else _SERIES[cycle]
        self.variable = "s0" if neutral else f"s{cycle + 1}"
        self.marker = (
            "o" if neutral else _MARKERS[(index + 1 + 2 * (index // len(_SERIES))) % len(_MARKERS)]
        )
        self.dash: Any = _DASHES[index // len(_SERIES) % len(_DASHES)]


def styles(labels: Sequence[str], neutral: Sequence[str] = ()) -> Mapping[str, Style]:
    """One style per label; the `neutral` ones (baselines) are grey."""
    out, index = {}, 0
    for label in labels:
        out[label] = Style(index, neutral=label in neutral)
        index += label not in neutral
    return out


@contextmanager
def _settings(salt: str) -> Iterator[None]:
    matplotlib = require("matplotlib", "compare")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": "DejaVu Sans",  # ships with matplotlib, so sizes never vary
                "font.size": 11,
                "svg.fonttype": "none",
                "svg.hashsalt": salt,
                "axes.unicode_minus": True,
            }
        )
        yield


@contextmanager
def new_figure(name: str, width: float, height: float) -> Iterator[Any]:
    """A transparent figure of `width` by `height` CSS pixels, under the settings of this module."""
    with _settings(name):
        figure = require("matplotlib.figure", "compare").Figure((width / 72, height / 72), dpi=72)
        figure.patch.set_alpha(0)
        require("matplotlib.backends.backend_agg", "compare").FigureCanvasAgg(figure)
        yield figure


def axes_look(axes: Any, *, grid: str = "y") -> None:
    """No frame, a faint grid, muted ticks."""
    axes.patch.set_alpha(0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(length=0, colors=MUTED, labelsize=10.5, pad=5)
    axes.tick_params(which="minor", length=0, labelsize=0)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(MUTED)
        axis.label.set_size(10.5)


def ticks(most: int) -> Any:
    """A locator for at most that many round ticks."""
    return require("matplotlib.ticker", "compare").MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])


def svg(figure: Any, name: str, alt: str) -> str:
    """The figure as an inline `<svg>`: responsive, themed, with ids that no other figure uses."""
    buffer = io.StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=empty)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None
    width = float(view[1].split()[2])
    head = (
        f'<svg class="plot" role="img" aria-label="{alt}" viewBox="{view[1]}" '
        f'style="max-width:{width * 1.25:.0f}px">'
    )
    text = head + text[text.index(">") + 1 :]
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]+", r"\1 var(--sans)", text)

    def themed(found: re.Match[str]) -> str:
        variable = _VARIABLES.get(found[0])
        return f"var(--{variable}, {found[0]})" if variable else found[0]

    return re.sub(r"#[0-9a-f]{6}\b", themed, text).strip()


def text_size(figure: Any, text: str, size: float) -> tuple[float, float]:
    """Width and height of a text in CSS pixels, measured with the drawing font."""
    found = figure.text(0, 0, text, fontsize=size)
    box = found.get_window_extent(figure.canvas.get_renderer())
    found.remove()
    return box.width, box.height


def shortened(figure: Any, text: str, size: float, width: float) -> str:
    """The text, with an ellipsis in its middle where it is wider than `width`.

    Both ends stay, because labels of one grid often differ in their last characters only.
    """
    short, keep = text, len(text)
    while keep > 2 and text_size(figure, short, size)[0] > width:
        keep -= 1
        short = f"{text[: (keep + 1) // 2].rstrip()}…{text[len(text) - keep // 2 :].lstrip()}"
    return short


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, at least `gap` apart, inside the range where they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Pool neighbours that are too close; each pool is centred on the mean of what it wants.
    pools: list[list[int]] = []

    def start(pool: list[int]) -> float:
        first = sum(wanted[i] for i in pool) / len(pool) - gap * (len(pool) - 1) / 2
        return max(low, min(first, high - gap * (len(pool) - 1)))

    for i in order:
        pools.append([i])
        while len(pools) > 1 and start(pools[-2]) + gap * len(pools[-2]) > start(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    out = [0.0] * len(wanted)
    for pool in pools:
        for k, i in enumerate(pool):
            out[i] = start(pool) + gap * k
    return out


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[tuple[float, float]]:
    """Centres for the labels of points, away from points, obstacles, each other and the frame.

    All lengths are in pixels. Greedy, the crowded points first: of the places on three rings
    around a point, the one that covers least, then the nearest.
    """
    rings = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    dots = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    taken: list[Box] = []
    out: list[tuple[float, float]] = [(0.0, 0.0)] * len(points)

    def crowd(i: int) -> float:
        x, y = points[i]
        return sum(1 / (1 + abs(x - u) + abs(y - v)) for u, v in points)

    for i in sorted(range(len(points)), key=lambda i: (-crowd(i), i)):
        (x, y), (w, h) = points[i], sizes[i]
        best = float("inf")
        for reach in (9, 18, 30, 44):
            for dx, dy in rings:
                diagonal = 0.75 if dx and dy else 1.0
                cx, cy = x + dx * diagonal * (reach + w / 2), y + dy * diagonal * (reach + h / 2)
                box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                inside = _overlap(box, frame) / (w * h)
                cost = (
                    reach
                    + 4 * bool(dx and dy)
                    + 400 * (1 - inside)
                    + 6 * sum(_overlap(box, other) for other in taken)
                    + 3 * sum(_overlap(box, other) for other in dots)
                    + 3 * sum(_overlap(box, other) for other in obstacles)
                )
                if cost < best - 1e-9:
                    best, out[i] = cost, (cx, cy)
        cx, cy = out[i]
        taken.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
    return out
