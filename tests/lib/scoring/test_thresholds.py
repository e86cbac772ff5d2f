"""Thresholds against a twin that tries every score, and what must not change them."""

import numpy as np
import pytest

from lib.scoring.thresholds import Criterion, best_thresholds, tune_thresholds
from tests.helpers.refusals import refused
from tests.helpers.twins import literal_threshold

CRITERIA = ["f1", "precision@0.6", "precision@1", "recall@0.5", "recall@1"]


def random_case(seed, rows=41, columns=5):
    random = np.random.default_rng(seed)
    targets = (random.random((rows, columns)) < 0.35).astype(np.uint8)
    scores = (0.3 * targets + 0.7 * random.random((rows, columns))).astype(np.float32)
    scores[:, :3] = scores[:, :3].round(1)  # ties
    targets[:, 0] = 0
    ignore = random.random((rows, columns)) < 0.2
    return scores, targets, ignore


@pytest.mark.parametrize("text", CRITERIA)
@pytest.mark.parametrize("seed", range(8))
def test_every_distinct_score_is_tried(text, seed):
    case, criterion = random_case(seed), Criterion.parse(text)
    found = best_thresholds(*case, criterion)
    for column in range(case[0].shape[1]):
        expected = literal_threshold(*(array[:, column] for array in case), *criterion)
        assert np.isnan(found[column]) if expected is None else found[column] == expected


@pytest.mark.parametrize("text", CRITERIA)
def test_entries_of_unknown_truth_take_no_part(text):
    scores, targets, ignore = random_case(3)
    hidden = np.where(ignore, 1 - targets, targets)
    other = np.where(ignore, 1 - scores, scores)
    found = tune_thresholds(scores, targets, ignore, Criterion.parse(text), default=0.5)
    again = tune_thresholds(other, hidden, ignore, Criterion.parse(text), default=0.5)
    np.testing.assert_array_equal(found[0], again[0])
    assert found[1:] == again[1:]


def test_few_examples_take_the_threshold_of_all():
    scores, targets, ignore = random_case(1)
    targets[:, 1] = 0
    targets[:4, 1], ignore[:4, 1] = 1, False
    targets[:, 2], ignore[:, 2] = 1, False
    targets[-3:, 2] = 0
    values, overall, fallbacks = tune_thresholds(
        scores, targets, ignore, Criterion("f1"), default=0.5
    )
    pooled = literal_threshold(scores.ravel(), targets.ravel(), ignore.ravel(), "f1", None)
    assert overall == pooled
    expected = {0: ("0 positive", "5"), 1: ("4 positive", "5"), 2: ("3 negative", "5")}
    assert list(fallbacks) == list(expected)
    assert all(part in fallbacks[c] for c, parts in expected.items() for part in parts)
    assert (values[:3] == pooled).all()
    own = best_thresholds(scores, targets, ignore, Criterion("f1"))
    np.testing.assert_array_equal(values[3:], own[3:])


def test_a_precision_out_of_reach_takes_the_default_in_the_end():
    scores = np.tile(np.linspace(0, 1, 20, dtype=np.float32)[:, None], (1, 2))
    targets = np.zeros((20, 2), np.uint8)
    targets[:8] = 1  # the lowest scores
    values, overall, fallbacks = tune_thresholds(
        scores, targets, np.zeros((20, 2), bool), Criterion("precision", 0.9), default=0.25
    )
    assert list(fallbacks) == [0, 1] and "precision@0.9" in fallbacks[0]
    assert overall == 0.25 and values.tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    "text", ["", "f2", "f1@0.5", "precision", "recall@", "recall@0", "precision@90", "recall@nan"]
)
def test_other_criteria_are_refused(text):
    with refused(f"--tune-thresholds {text}"):
        Criterion.parse(text)


def test_criteria_are_printed_as_they_are_read():
    assert [str(Criterion.parse(text)) for text in CRITERIA] == CRITERIA
