"""The table and the page say the same, need nothing from outside and escape what users write."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from pages import Page
from synthetic_runs import record, runs_of

from convattn.compare.drawing import place_labels, spread, styles
from convattn.compare.records import Run
from convattn.compare.report import Picture, render_report, write_report
from convattn.compare.statistics import compare_runs
from convattn.compare.table import as_grid, as_markdown, print_comparison
from convattn.core.errors import ArgumentError

REFERENCES = {"chance": 0.1, "linear on pixels": 0.21}


@pytest.fixture(scope="module")
def page(grid, png) -> str:
    runs = grid()
    c = compare_runs(runs, references=REFERENCES)
    picture = Picture("Stage 1", "The gates over <image>", png)
    return render_report(c, runs, pictures=[picture], command="convattn compare --seeds 0,1,2")


class TestPage:
    def test_is_well_formed_with_unique_ids_and_whole_references(self, page: str) -> None:
        found = Page(page)
        assert found.open == []
        assert len(found.ids) == len(set(found.ids))
        assert set(found.refs) <= set(found.ids)

    def test_loads_nothing_from_outside(self, page: str) -> None:
        assert {link.split(",")[0] for link in Page(page).loads} == {
            "data:",
            "data:image/png;base64",
        }
        assert "://" not in page
        assert "@import" not in page
        assert "default-src 'none'" in page
        assert "script" not in Page(page).tags

    def test_says_what_the_comparison_says(self, page: str, grid) -> None:
        c = compare_runs(grid(), references=REFERENCES)
        plain = re.sub(r"<[^>]+>", "", page).replace("&#x27;", "'").replace("&lt;", "<")
        for line in (*c.verdicts, *c.notes):
            assert line in plain
        for row in as_grid(c).rows:
            for cell in row:
                assert cell in plain
        for part in ("convattn compare --seeds 0,1,2", "optimizer.lr", "All 15 runs", "9f2c"):
            assert part in plain

    def test_has_every_figure(self, page: str) -> None:
        figures = re.findall(r'aria-label="([^"]*)" viewBox', page)
        assert len(figures) == 2 + 3 + 2
        assert figures[0].startswith("top-1, % per variant: none 8")
        assert sum("against" in text for text in figures) == 3

    def test_every_colour_of_a_figure_follows_the_scheme(self, page: str) -> None:
        for svg in re.findall(r'<svg class="plot".*?</svg>', page, flags=re.S):
            bare = re.sub(r"var\(--[a-z0-9]+, #[0-9a-f]{6}\)", "", svg)
            assert set(re.findall(r"(?:fill|stroke): #\w+", bare)) == set()

    def test_same_input_gives_the_same_bytes(self, grid, tmp_path) -> None:
        runs = grid()
        c = compare_runs(runs, references=REFERENCES)
        one = write_report(tmp_path / "a" / "report.html", c, runs).read_bytes()
        two = write_report(tmp_path / "b.html", c, runs).read_bytes()
        assert one == two
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b.html"]

    def test_a_date_only_when_given(self, grid) -> None:
        runs = grid()
        c = compare_runs(runs)
        assert "Made by convattn." in render_report(c, runs)
        assert "Made by convattn on 1 May." in render_report(c, runs, date="1 May")

    def test_what_users_write_is_escaped(self, png) -> None:
        evil = '<b onload="x">&'
        rows = [record(evil, seed, 0.8 + 0.01 * seed) for seed in (0, 1)]
        for row in rows:
            row["data"] = {**row["data"], "name": evil}
            row["environment"] = {evil: evil}
        runs = [Run.from_dict(row) for row in rows]
        c = compare_runs(runs, references={evil: 0.1})
        text = render_report(
            c, runs, title=evil, command=evil, date=evil, pictures=[Picture(evil, evil, png)]
        )
        assert "<b onload" not in text
        assert Page(text).open == []
        assert "b" not in Page(text).tags

    def test_a_picture_that_is_no_png_leaves_no_file(self, grid, tmp_path) -> None:
        runs = grid()
        c, picture = compare_runs(runs), Picture("Stage 1", "", b"GIF89a")
        with pytest.raises(ArgumentError, match="'Stage 1' is not a PNG"):
            write_report(tmp_path / "r.html", c, runs, pictures=[picture])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "values",
        [
            {"ca": [0.8]},
            {"none": [0.8], "ca": [0.8]},
            {"none": [0.8, 0.8], "ca": [0.9, 0.9]},
            {"none": [0.0, 1.0], "ca": [1.0, 0.0]},
            {f"block-{k}-with-a-long-name": [0.8, 0.81 + k / 100] for k in range(9)},
        ],
        ids=["one run", "one seed", "no spread", "full spread", "nine"],
    )
    def test_extreme_comparisons_still_make_a_page(self, values) -> None:
        runs = runs_of(values)
        for metric in ("top1", "loss"):
            c = compare_runs(runs, metric=metric, references={"chance": 0.1, "certain": 0.99})
            assert Page(render_report(c, runs)).open == []

    def test_runs_without_cost_and_history(self) -> None:
        rows = [record("ca", seed, 0.8 + 0.01 * seed, cost={}, history=[]) for seed in (0, 1)]
        runs = [Run.from_dict(row) for row in rows]
        text = render_report(compare_runs(runs), runs)
        assert 'id="cost"' not in text
        assert 'id="training"' not in text


class TestTable:
    def test_markdown(self) -> None:
        c = compare_runs(
            runs_of({"none": [0.80, 0.81, 0.82], "ca": [0.90, 0.91, 0.922]}), references=REFERENCES
        )
        lines = as_markdown(c).splitlines()
        assert lines[0].startswith("| variant | top-1, % | seeds | against none | Holm p |")
        assert lines[2].startswith(
            "| ca | 91.1 ± 2.7 | 3 | +10.1 (+9.8 to +10.4) | < 0.001 | 655,330"
        )
        assert lines[4].startswith("| linear on pixels | 21.0 | – |")
        assert lines[5].startswith("| chance | 10.0 |")
        assert as_grid(c).breaks == (1,)

    def test_terminal(self, grid, capsys) -> None:
        from rich.console import Console

        c = compare_runs(grid(), references=REFERENCES)
        print_comparison(c, Console(width=140))
        out = capsys.readouterr().out
        for word in ("cbam", "655,330", "linear on pixels", "MACs", c.verdicts[0]):
            assert word in out

    def test_a_label_is_not_markup(self, capsys) -> None:
        from rich.console import Console

        print_comparison(compare_runs(runs_of({"[red]x[/red]": [0.8, 0.9]})), Console(width=140))
        assert "[red]x[/red]" in capsys.readouterr().out


class TestDrawing:
    def test_spread_keeps_the_gap_the_order_and_the_range(self) -> None:
        out = spread([5, 5, 5.1, 40], 10, 0, 50)
        assert sorted(out) == out
        assert all(b - a >= 10 - 1e-9 for a, b in pairwise(out))
        assert min(out) >= 0
        assert max(out) <= 50

    def test_labels_do_not_cover_each_other(self) -> None:
        points = [(50.0, 50.0), (52.0, 50.0), (50.0, 53.0), (90.0, 50.0)]
        sizes = [(30.0, 10.0)] * 4
        out = place_labels(points, sizes, [], (0, 0, 200, 200))
        for i, (x, y) in enumerate(out):
            for u, v in out[:i]:
                assert abs(x - u) >= 30 or abs(y - v) >= 10

    def test_no_two_of_fourteen_variants_look_the_same(self) -> None:
        looks = styles([f"v{k}" for k in range(14)]).values()
        assert len({(s.colour, s.marker) for s in looks}) == 14
        assert len({(s.colour, str(s.dash)) for s in looks}) == 14
