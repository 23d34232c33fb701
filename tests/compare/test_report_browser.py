"""The report in a real browser: it loads nothing, fits a phone, and no two labels collide."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from synthetic_runs import runs_of

from convattn.compare.report import Picture, render_report
from convattn.compare.statistics import compare_runs

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on PATH (Debian: apt install chromium)"
    ),
]

# A page of our own around the report; the report itself bears no script and forbids any.
WRAPPER = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<iframe style="width:1100px;height:900px;border:0" srcdoc="{page}"></iframe>
<iframe style="width:400px;height:900px;border:0" srcdoc="{page}"></iframe>
<pre id="facts"></pre>
<script>
function collisions(svg) {{
  const texts = [...svg.querySelectorAll("text")]
    .map(t => [t.textContent, t.getBoundingClientRect()]).filter(([, b]) => b.width > 0);
  const out = [];
  texts.forEach(([s, a], i) => texts.slice(0, i).forEach(([t, b]) => {{
    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    // Line boxes are taller than letters; a third of the height is still blank.
    if (w > 1 && h > Math.min(a.height, b.height) / 3) out.push(s + " | " + t);
  }}));
  return out;
}}
function look(frame) {{
  const doc = frame.contentDocument, root = doc.documentElement;
  const shown = [...doc.querySelectorAll("svg.plot")].filter(s => s.getBoundingClientRect().width);
  const texts = shown.flatMap(s => [...s.querySelectorAll("text")]);
  return {{
    overflow: root.scrollWidth - root.clientWidth,
    images: [...doc.images].map(i => [i.complete, i.naturalWidth, i.alt.length]),
    requests: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name),
    plots: shown.map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height]),
    collisions: shown.flatMap(collisions),
    smallest: Math.min(...texts.map(t => t.getScreenCTM().a * parseFloat(
      frame.contentWindow.getComputedStyle(t).fontSize))),
    background: frame.contentWindow.getComputedStyle(doc.body).backgroundColor,
    ink: frame.contentWindow.getComputedStyle(doc.querySelector("h1")).color,
    tick: frame.contentWindow.getComputedStyle(texts[0]).fill,
    heading: doc.querySelector("h1").textContent,
  }};
}}
addEventListener("load", () => {{
  document.getElementById("facts").textContent =
    JSON.stringify([...document.querySelectorAll("iframe")].map(look));
}});
</script>"""


def chromium(folder: Path, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    return subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--v=0",
            f"--user-data-dir={folder / 'profile'}",
            *options,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.fixture(scope="module")
def report() -> str:
    labels = (
        "none",
        "se",
        "cbam",
        "eca",
        "ca",
        "triplet",
        "ca width_mult=0.5",
        "ca width_mult=1.0",
    )
    values = {
        label: [0.83 + 0.004 * (k % 5) + 0.003 * s * (-1) ** k for s in range(3)]
        for k, label in enumerate(labels)
    }
    runs = runs_of(values)
    c = compare_runs(runs, references={"chance": 0.1, "linear on pixels": 0.21})
    return render_report(c, runs, pictures=[Picture("Stage 1", "Gates", _png())], command="x " * 90)


def _png() -> bytes:
    import io

    import numpy as np
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, np.linspace(0, 1, 64 * 32).reshape(32, 64), cmap="viridis", format="png")
    return file.getvalue()


@pytest.fixture(scope="module", params=["light", "dark"])
def seen(request, report: str, tmp_path_factory) -> tuple[str, list[dict], str]:
    folder = tmp_path_factory.mktemp(request.param)
    page = folder / "wrapper.html"
    page.write_text(WRAPPER.format(page=html.escape(report)), encoding="utf-8")
    scheme = {"dark": 0, "light": 1}[request.param]
    done = chromium(
        folder,
        page,
        "--dump-dom",
        "--virtual-time-budget=5000",
        "--window-size=1600,1000",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    found = re.search(r'<pre id="facts">(.*?)</pre>', done.stdout, flags=re.S)
    assert found, done.stderr
    return request.param, json.loads(html.unescape(found[1])), done.stderr


def test_nothing_is_requested_and_nothing_complains(seen) -> None:
    _, frames, log = seen
    for frame in frames:
        assert [name for name in frame["requests"] if not name.startswith("data:")] == []
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []


def test_pictures_and_plots_are_shown(seen) -> None:
    _, frames, _ = seen
    for frame in frames:
        assert frame["heading"] == "Attention blocks compared"
        assert frame["images"]
        assert all(done and width > 0 and alt > 0 for done, width, alt in frame["images"])
        assert len(frame["plots"]) == 6
        assert all(width > 200 and height > 100 for width, height in frame["plots"])


def test_fits_a_desk_and_a_phone(seen) -> None:
    _, frames, _ = seen
    assert [frame["overflow"] for frame in frames] == [0, 0]
    assert min(frame["smallest"] for frame in frames) >= 9.5


def test_no_two_texts_of_a_plot_collide(seen) -> None:
    _, frames, _ = seen
    assert [frame["collisions"] for frame in frames] == [[], []]


def test_ink_and_page_follow_the_scheme(seen) -> None:
    scheme, frames, _ = seen

    def brightness(colour: str) -> float:
        return sum(map(float, re.findall(r"\d+", colour)[:3])) / 3

    page, ink, tick = (brightness(frames[0][part]) for part in ("background", "ink", "tick"))
    if scheme == "light":
        assert page > 200 > 130 > tick > ink
    else:
        assert page < 60 < 120 < tick < ink


def test_screenshot_is_not_blank(report: str, tmp_path: Path) -> None:
    from matplotlib.image import imread

    page, picture = tmp_path / "report.html", tmp_path / "shot.png"
    page.write_text(report, encoding="utf-8")
    chromium(tmp_path, page, f"--screenshot={picture}", "--window-size=1200,1600")
    pixels = imread(picture)
    assert pixels.shape[:2] == (1600, 1200)
    rows = pixels[..., :3].reshape(-1, 1200 * 3)
    assert (rows.max(1) - rows.min(1) > 0.3).mean() > 0.2
