"""The statistics equal SciPy's, keep their promised coverage, and rank nothing that overlaps."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import scipy.stats
from synthetic_runs import record, runs_of

from convattn.compare.inference import Interval, tiers_of
from convattn.compare.records import Run
from convattn.compare.statistics import (
    compare_runs,
    holm,
    paired_difference,
    pareto,
    t_bounds,
    t_interval,
)
from convattn.core.errors import ArgumentError, DataError, DataNotFoundError

A = [0.812, 0.834, 0.829, 0.841, 0.820]
B = [0.801, 0.815, 0.827, 0.822, 0.811]


class TestAgainstSciPy:
    def test_t_interval(self) -> None:
        found = t_interval(A)
        expected = scipy.stats.t.interval(0.95, len(A) - 1, np.mean(A), scipy.stats.sem(A))
        assert found is not None
        assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)

    def test_paired_difference(self) -> None:
        found = paired_difference(dict(enumerate(A)), dict(enumerate(B)))
        test = scipy.stats.ttest_rel(A, B)
        interval = test.confidence_interval(0.95)
        assert found.p == pytest.approx(test.pvalue, rel=1e-9)
        assert found.interval is not None
        assert (found.interval.low, found.interval.high) == pytest.approx(
            (interval.low, interval.high), rel=1e-9
        )

    def test_comparison_holds_the_same_numbers(self) -> None:
        c = compare_runs(runs_of({"none": B, "ca": A, "se": B[::-1]}))
        ca, se = c["ca"], c["se"]
        assert ca.mean == pytest.approx(np.mean(A))
        assert ca.sd == pytest.approx(np.std(A, ddof=1))
        p = [scipy.stats.ttest_rel(x, B).pvalue for x in (A, B[::-1])]
        assert ca.difference is not None
        assert se.difference is not None
        assert ca.difference.p_holm == pytest.approx(min(1, 2 * p[0]))
        assert se.difference.p_holm == pytest.approx(max(2 * p[0], p[1]))


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_95_percent_interval_covers_95_percent(n: int) -> None:
    samples = np.random.default_rng(7).normal(0.8, 0.02, (20_000, n))
    low, high = t_bounds(samples, 0.95)
    covered = np.mean((low <= 0.8) & (high >= 0.8))
    assert 0.93 <= covered <= 0.97


def test_holm_against_a_hand_worked_example() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


class TestPareto:
    def test_golden_front(self) -> None:
        points = [(1.0, 0.70), (2.0, 0.69), (2.0, 0.75), (3.0, 0.75), (4.0, 0.80), (0.5, 0.60)]
        assert pareto(points) == (5, 0, 2, 4)

    def test_equal_points_all_stay(self) -> None:
        assert pareto([(1.0, 0.7), (1.0, 0.7)]) == (0, 1)

    def test_lower_is_better(self) -> None:
        assert pareto([(1.0, 0.5), (2.0, 0.4), (3.0, 0.45)], higher_is_better=False) == (0, 1)


class TestTiers:
    def test_cut_only_where_nothing_reaches_across(self) -> None:
        found = tiers_of(
            {"a": Interval(1, 2), "b": Interval(5, 6), "c": Interval(1.5, 3), "d": Interval(2.5, 4)}
        )
        # a and d do not touch, but c joins them.
        assert found == (("b",), ("a", "c", "d"))

    def test_touching_is_not_above(self) -> None:
        assert tiers_of({"a": Interval(1, 2), "b": Interval(2, 3)}) == (("a", "b"),)

    def test_lower_is_better(self) -> None:
        intervals = {"a": Interval(1, 2), "b": Interval(5, 6)}
        assert tiers_of(intervals, higher_is_better=False) == (("a",), ("b",))


class TestVerdicts:
    def test_a_winner_is_named(self) -> None:
        c = compare_runs(runs_of({"none": [0.80, 0.81, 0.82], "ca": [0.90, 0.91, 0.922]}))
        assert c.contenders == ("ca",)
        assert c.tiers == (("ca",), ("none",))
        assert c.above("ca", "none")
        assert c.verdicts[0].startswith("ca is first: its 95 % interval lies wholly above")
        assert c.verdicts[1].startswith("ca beats none by 10.1 points (95 % interval 9.8 to 10.4, ")

    def test_overlap_is_no_ranking_and_rows_keep_their_order(self) -> None:
        c = compare_runs(
            runs_of({"se": [0.84, 0.85, 0.87], "none": [0.83, 0.86, 0.85], "ca": B[:3]}),
        )
        assert c.tiers == (("none", "se", "ca"),)
        assert [v.label for v in c.variants] == ["none", "se", "ca"]
        assert c.verdicts[0] == "No single winner: the intervals of all 3 variants overlap."
        assert any(line.startswith("se against none: not distinguishable") for line in c.verdicts)

    def test_ca_not_first_is_said(self) -> None:
        c = compare_runs(
            runs_of(
                {"none": [0.80, 0.81, 0.82], "ca": [0.84, 0.85, 0.86], "se": [0.95, 0.96, 0.97]}
            )
        )
        assert (
            "ca is not first: se has the higher mean (96.0 against 85.0 %), and their intervals "
            "do not overlap." in c.verdicts
        )

    def test_worse_than_the_baseline_is_said(self) -> None:
        c = compare_runs(runs_of({"none": [0.90, 0.91, 0.92], "se": [0.80, 0.812, 0.82]}))
        assert c.verdicts[1].startswith("se is worse than none by 9.9 points (95 % interval 9.6 to")

    def test_lower_is_better_metric(self) -> None:
        runs = runs_of({"none": [0.80, 0.81, 0.82], "ca": [0.90, 0.91, 0.922]})
        c = compare_runs(runs, metric="loss")
        assert not c.higher_is_better
        assert not c.percent
        assert c.tiers == (("ca",), ("none",))
        assert c.verdicts[1].startswith("ca beats none by 0.101 (95 % interval 0.098 to 0.104")

    def test_references(self) -> None:
        runs = runs_of({"none": [0.80, 0.81, 0.82], "ca": [0.90, 0.91, 0.922]})
        c = compare_runs(runs, references={"chance": 0.1, "linear on pixels": 0.81})
        line = "Not clearly above the best reference, linear on pixels (81.0 %): none."
        assert line in c.verdicts


class TestEdges:
    def test_one_seed_has_no_interval_and_no_test(self) -> None:
        c = compare_runs(runs_of({"none": [0.8], "ca": [0.9]}))
        assert c["ca"].interval is None
        assert c["ca"].sd is None
        assert c.tiers == ()
        assert c.unranked == ("none", "ca")
        assert c.verdicts[0].startswith("One seed per variant: no interval, no test")
        assert "ca against none: one seed in common, so no test." in c.verdicts

    def test_identical_differences_are_handled_without_warnings(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            c = compare_runs(
                runs_of(
                    {"none": [0.80, 0.82, 0.85], "ca": [0.83, 0.85, 0.88], "se": [0.80, 0.82, 0.85]}
                )
            )
        ca, se = c["ca"].difference, c["se"].difference
        assert ca is not None
        assert se is not None
        # The exact sign-flip test of three equal differences: 2 of 8 sign patterns.
        assert (ca.p, ca.degenerate) == (0.25, True)
        assert (se.p, se.p_holm) == (1.0, 1.0)
        assert any("sign-flip" in line for line in c.notes)

    def test_all_seeds_the_same_value_is_told(self) -> None:
        c = compare_runs(runs_of({"none": [0.8, 0.8], "ca": [0.9, 0.91]}))
        assert any("All seeds of none gave the same value" in line for line in c.notes)

    def test_only_common_seeds_are_paired(self) -> None:
        runs = [r for r in runs_of({"none": B, "ca": A}) if (r.label, r.seed) != ("none", 1)]
        c = compare_runs(runs)
        d = c["ca"].difference
        assert d is not None
        assert d.seeds == (0, 2, 3, 4)
        keep = [0, 2, 3, 4]
        test = scipy.stats.ttest_rel([A[i] for i in keep], [B[i] for i in keep])
        assert d.p == pytest.approx(test.pvalue)
        assert any("paired on seed 0, 2, 3 and 4 only; seed 1" in line for line in c.notes)

    def test_no_common_seed(self) -> None:
        runs = [r for r in runs_of({"none": B, "ca": A}) if (r.seed < 2) == (r.label == "ca")]
        c = compare_runs(runs)
        assert "ca against none: no seed in common, so not compared." in c.verdicts

    def test_absent_baseline_is_told(self) -> None:
        c = compare_runs(runs_of({"se": B, "ca": A}))
        assert all(v.difference is None for v in c.variants)
        assert any("no variant 'none'" in line for line in c.notes)

    def test_unknown_metric_lists_the_known(self) -> None:
        with pytest.raises(ArgumentError, match=r"'top2'.*loss, top1, top5"):
            compare_runs(runs_of({"none": B}), metric="top2")

    def test_baseline_is_the_same_cell_without_attention(self) -> None:
        runs = []
        for width in (0.5, 1.0):
            for name in ("none", "ca"):
                for seed in (0, 1, 2):
                    row = record(f"{name} {width}", seed, 0.8 + 0.1 * width + 0.001 * seed**2)
                    row["cell"] = {"attention": name, "width": width}
                    row["config"] = {**row["config"], "attention": name, "width": width}
                    runs.append(Run.from_dict(row))
        c = compare_runs(runs)
        found = {v.label: v.difference.against for v in c.variants if v.difference}
        assert found == {"ca 0.5": "none 0.5", "ca 1.0": "none 1.0"}

    def test_costs(self) -> None:
        c = compare_runs(runs_of({"none": B, "ca": A}))
        assert c["ca"].cost.parameters == 655_330
        assert c["ca"].cost.latency_ms == pytest.approx(4.2)
        bare = [Run.from_dict(record("ca", s, 0.8, cost={})) for s in (0, 1)]
        assert compare_runs(bare)["ca"].cost.macs is None


class TestFairness:
    def test_another_recipe_is_refused_with_the_field(self) -> None:
        odd = record("ca", 0, 0.8)
        odd["config"] = {**odd["config"], "optimizer": {"name": "sgd", "lr": 0.1}}
        with pytest.raises(ArgumentError, match=r"config field 'optimizer\.lr' is 0\.05 in none"):
            compare_runs([*runs_of({"none": [0.8]}), Run.from_dict(odd)])
        compare_runs([*runs_of({"none": [0.8]}), Run.from_dict(odd)], ignore=["optimizer.lr"])

    def test_other_data_is_refused(self) -> None:
        odd = record("ca", 0, 0.8)
        odd["data"] = {**odd["data"], "fingerprint": "0000"}
        with pytest.raises(ArgumentError, match="data field 'fingerprint' is '9f2c'"):
            compare_runs([*runs_of({"none": [0.8]}), Run.from_dict(odd)])

    def test_a_run_given_twice_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match="ca seed 0 is given twice"):
            compare_runs(runs_of({"ca": [0.8]}) + runs_of({"ca": [0.8]}))

    def test_no_runs(self) -> None:
        with pytest.raises(ArgumentError, match="no finished runs"):
            compare_runs([])

    def test_seeds_of_different_networks_are_refused(self) -> None:
        odd = record("ca", 1, 0.8, cost={"parameters": 1})
        with pytest.raises(DataError, match="differ in parameters"):
            compare_runs([*runs_of({"ca": [0.8]}), Run.from_dict(odd)])

    def test_another_environment_is_told(self) -> None:
        odd = record("ca", 0, 0.8, environment={"torch": "2.15.0"})
        c = compare_runs([*runs_of({"none": [0.8]}), Run.from_dict(odd)])
        assert any("environment was not the same in all runs: torch" in line for line in c.notes)


class TestRecords:
    def test_load_round_trip(self, tmp_path) -> None:
        path = tmp_path / "run.json"
        path.write_text(json.dumps(record("ca", 3, 0.8)))
        run = Run.load(path)
        assert run == Run.from_dict(record("ca", 3, 0.8))
        assert run.source == str(path)

    def test_absent_file(self, tmp_path) -> None:
        with pytest.raises(DataNotFoundError, match=r"gone\.json"):
            Run.load(tmp_path / "gone.json")

    def test_half_written_file(self, tmp_path) -> None:
        path = tmp_path / "run.json"
        path.write_text(json.dumps(record("ca", 3, 0.8))[:100])
        with pytest.raises(DataError, match=r"run\.json is not valid JSON \(line 1"):
            Run.load(path)

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("seed", "3", "'seed' is '3', not a whole number"),
            ("seed", True, "'seed' is True, not a whole number"),
            ("metrics", {"top1": math.nan}, "'metrics.top1' is nan, not a finite number"),
            ("history", [{"top1": 1}], r"'history\[0\].epoch' is None"),
            ("config", [], r"'config' is \[\], not an object"),
            ("schema", 2, "'schema' is 2, this version reads 1"),
        ],
    )
    def test_broken_field_is_named(self, field: str, value: object, message: str) -> None:
        with pytest.raises(DataError, match=message):
            Run.from_dict(record("ca", 3, 0.8, **{field: value}), source="x.json")

    def test_missing_field_is_named(self) -> None:
        broken = record("ca", 3, 0.8)
        del broken["label"]
        with pytest.raises(DataError, match=r"x\.json: field 'label' is missing"):
            Run.from_dict(broken, source="x.json")
