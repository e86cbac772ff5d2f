"""Runs side by side: groups of seeds, deviations and paired differences."""

import numpy as np
import pytest

from lib.common.errors import UserError
from lib.reports.comparison import compare
from lib.reports.comparison_views import markdown, table
from lib.reports.results import open_evaluated
from lib.scoring.bootstrap import (
    interval,
    resample_counts,
    resampled_average_precision,
    resampled_mean,
)
from tests.helpers.evaluated import make_evaluated


def runs(folder, *flags, **shape):
    return [
        open_evaluated(make_evaluated(folder / f"exp{number}", noise=number, **one, **shape))
        for number, one in enumerate(flags, 1)
    ]


def compared(given, **options):
    return compare(given, **({"threshold": None, "resamples": 40, "seed": 0} | options))


def test_seeds_form_a_group_and_other_flags_do_not(tmp_path):
    given = runs(
        tmp_path,
        {"seed": 0},
        {"lamda": 0.1},
        {"seed": 7, "workers": 3},
        {"pos": True, "lamda": 0.1},
    )
    found = compared(given)
    names = [[run.name.rsplit("exp")[1] for run in group.runs] for group in found.groups]
    assert names == [["1", "3"], ["2"], ["4"]]
    assert sorted(found.flags) == ["lamda", "pos"]
    rows = table(found)
    assert [row["run"].rsplit("/")[-1] for row in rows] == [
        "exp1", "exp3", "mean of 2", "exp2", "exp4",
    ]  # fmt: skip
    assert [row["--lamda"] for row in rows] == [1.0, 1.0, 1.0, 0.1, 0.1]
    assert [row["--pos"] for row in rows] == ["no", "no", "no", "no", "yes"]
    assert [row["seed"] for row in rows] == [0, 7, None, 0, 0]


def test_mean_and_deviation_are_those_of_the_runs(tmp_path):
    given = runs(tmp_path, {"seed": 0}, {"seed": 1}, {"seed": 2})
    (group,) = compared(given).groups
    values = [run.stored.summary(0.5, 3)["topk_of1"] for run in given]
    assert group.mean("topk_of1") == pytest.approx(np.mean(values))
    assert group.deviation("topk_of1") == pytest.approx(np.std(values, ddof=1)) != 0
    row = table(compared(given))[-1]
    assert row["top-k OF1 std"] == group.deviation("topk_of1")
    assert row["pointing accuracy"] == 0.75 and row["pointing accuracy std"] == 0


def test_one_run_has_no_deviation_and_a_missing_measure_no_mean(tmp_path):
    given = runs(tmp_path, {"seed": 0}, {"seed": 1})
    del given[1].results["pointing_accuracy"]
    (group,) = compared(given).groups
    assert group.mean("pointing_accuracy") is None
    assert group.deviation("pointing_accuracy") is None
    assert group.runs[1].measures.get("pointing_accuracy") is None
    assert compared(given[:1]).groups[0].deviation("mAP") is None


def test_differences_are_paired(tmp_path):
    """A better copy of the same scores: far smaller an interval than of independent ones."""
    worse, better = runs(tmp_path, {}, {"lamda": 0.5}, images=200)
    scores = worse.stored.scores + 0.02 * (worse.stored.targets * (1 - worse.stored.scores))
    better = better._replace(stored=worse.stored._replace(scores=scores.astype(np.float32)))
    first, second = compared([worse, better], resamples=200).groups
    assert first.difference is None
    moved, low, high = second.difference
    assert low < moved < high and low > 0
    assert high - low < 0.3 * np.diff(interval(first.resampled, first.mean("mAP")))[0]
    counts = resample_counts(200, 200, 0)
    both = [
        resampled_mean(resampled_average_precision(*run.stored.arrays, counts))
        for run in (worse, better)
    ]
    assert (low, high) == pytest.approx(interval(both[1] - both[0], moved))


def test_the_threshold_is_that_of_training_or_the_one_asked_for(tmp_path):
    given = runs(tmp_path, {}, {"threshold": 0.7})
    found = compared(given)
    for group, run, threshold in zip(found.groups, given, (0.5, 0.7), strict=True):
        assert group.mean("threshold_cf1") == run.stored.summary(threshold, 3)["threshold_cf1"]
    asked = compared(given, threshold=0.2).groups[0]
    assert asked.mean("threshold_of1") == given[0].stored.summary(0.2, 3)["threshold_of1"]


def test_the_table_is_aligned_and_leaves_empty_columns_out(tmp_path):
    lines = list(markdown(compared(runs(tmp_path / "a|b", {}, {"lamda": 0.5}))))
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4
    assert "a\\|b/exp1" in lines[2] and "--lamda" in lines[0]
    assert "less the first's" in lines[0] and " to " in lines[3]
    single = list(markdown(compared(runs(tmp_path / "b", {}))))
    assert "less the first's" not in single[0]


def test_runs_that_cannot_be_told_apart_are_refused(tmp_path):
    given = runs(tmp_path, {}, {})
    with pytest.raises(UserError, match="exp1: named twice"):
        compared([*given, given[0]._replace(path=given[0].path / ".." / "exp1")])
    with pytest.raises(UserError, match="config.yaml: no such file: nothing says"):
        compared([given[0]._replace(config=None)])
