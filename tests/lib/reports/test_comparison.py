"""Runs side by side: groups of seeds, deviations and paired differences."""

import numpy as np
import pytest

from lib.reports.comparison import compare, markdown, mean_and_deviation, spread_text
from lib.reports.results import open_evaluated
from lib.scoring.metrics import summarize
from tests.helpers.evaluated import make_evaluated
from tests.helpers.refusals import refused


def runs(folder, *flags, **shape):
    return [
        open_evaluated(make_evaluated(folder / f"exp{number}", noise=number, **one, **shape))
        for number, one in enumerate(flags, 1)
    ]


def compared(given, **options):
    return compare(given, **({"threshold": None, "resamples": 40, "seed": 0} | options))


def summary(run, threshold):
    return summarize(*run.stored.arrays, threshold=threshold, topk=3)


def test_seeds_form_a_group_and_other_flags_do_not(tmp_path):
    own = {"lamda": 0.1}, {"seed": 7, "workers": 3}, {"pos": True, "lamda": 0.1}
    given = runs(tmp_path, {"seed": 0}, *own)
    groups = compared(given)
    names = [[row["run"].rpartition("/")[2] for row in rows] for rows in groups]
    assert names == [["exp1", "exp3", "mean of 2"], ["exp2"], ["exp4"]]
    rows = sum(groups, [])
    assert [name for name in rows[0] if name.startswith("--")] == ["--pos", "--lamda"]
    assert [row["--lamda"] for row in rows] == [1.0, 1.0, 1.0, 0.1, 0.1]
    assert [row["--pos"] for row in rows] == ["no", "no", "no", "no", "yes"]
    assert [row["seed"] for row in rows] == [0, 7, None, 0, 0]


def test_mean_and_deviation_are_those_of_the_runs(tmp_path):
    given = runs(tmp_path, {"seed": 0}, {"seed": 1}, {"seed": 2})
    ((*single, mean),) = compared(given)
    values = [summary(run, 0.5)["topk_of1"] for run in given]
    assert [row["top-k OF1"] for row in single] == values
    assert mean["top-k OF1"] == pytest.approx(np.mean(values))
    assert mean["top-k OF1 std"] == pytest.approx(np.std(values, ddof=1)) != 0
    assert single[0]["mAP std"] is None
    assert (mean["pointing accuracy"], mean["pointing accuracy std"]) == (0.75, 0)
    del given[1].results["pointing_accuracy"]
    ((_, other, _, mean),) = compared(given)
    assert other["pointing accuracy"] is mean["pointing accuracy"] is None
    assert mean["pointing accuracy std"] is None


def test_spread_as_a_cell():
    assert spread_text(*mean_and_deviation([0.25, 0.75]), 2) == "0.50 ± 0.35"
    assert spread_text(*mean_and_deviation([0.25])) == "0.2500"
    assert spread_text(*mean_and_deviation([0.25, None])) == spread_text(None) == ""


def test_differences_are_paired(tmp_path):
    """A better copy of the same scores: far smaller an interval than of independent ones."""
    worse, better = runs(tmp_path, {}, {"lamda": 0.5}, images=200)
    scores = worse.stored.scores + 0.02 * (worse.stored.targets * (1 - worse.stored.scores))
    better = better._replace(stored=worse.stored._replace(scores=scores.astype(np.float32)))
    (first,), (second,) = compared([worse, better], resamples=200)
    assert "difference" not in first
    moved, low, high = (second[f"difference{end}"] for end in ("", " low", " high"))
    assert low < moved < high and low > 0
    assert high - low < 0.3 * (first["mAP high"] - first["mAP low"])
    _, (turned,) = compared([better, worse], resamples=200)
    assert turned["difference low"] < turned["difference high"] < 0


def test_the_threshold_is_that_of_training_or_the_one_asked_for(tmp_path):
    given = runs(tmp_path, {}, {"threshold": 0.7})
    for (row,), run, threshold in zip(compared(given), given, (0.5, 0.7), strict=True):
        assert row["CF1"] == summary(run, threshold)["threshold_cf1"]
    ((asked,), _) = compared(given, threshold=0.2)
    assert asked["OF1"] == summary(given[0], 0.2)["threshold_of1"]


def test_the_table_is_aligned_and_leaves_empty_columns_out(tmp_path):
    lines = list(markdown(sum(compared(runs(tmp_path / "a|b", {}, {"lamda": 0.5})), [])))
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4
    assert "a\\|b/exp1" in lines[2] and "--lamda" in lines[0]
    assert "less the first's" in lines[0] and " to " in lines[3]
    single = list(markdown(sum(compared(runs(tmp_path / "b", {})), [])))
    assert "less the first's" not in single[0]


def test_runs_that_cannot_be_told_apart_are_refused(tmp_path):
    one, other = runs(tmp_path, {}, {})
    again = one._replace(path=one.path / ".." / "exp1")
    for given, where in (
        ([one, other, again], again.path),
        ([one._replace(config=None)], one.path / "config.yaml"),
    ):
        with refused(where):
            compared(given)
