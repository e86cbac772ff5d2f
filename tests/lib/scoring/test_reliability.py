"""Calibration: known answers, the literal twin, and the edges of bins."""

import numpy as np
import pytest

from lib.scoring.reliability import bin_scores, expected_calibration_error
from tests.helpers.twins import literal_expected_calibration_error


def test_known_answer():
    scores = np.array([[0.1], [0.3], [0.9], [0.7]])
    bins = bin_scores(scores, np.array([[0], [1], [1], [1]]), bins=2)
    assert bins.count.tolist() == [[2, 2]] and bins.positive.tolist() == [[1, 2]]
    assert bins.negative.tolist() == [[1, 0]]
    np.testing.assert_allclose(bins.mean_score, [[0.2, 0.8]])
    np.testing.assert_allclose(bins.positive_share, [[0.5, 1]])
    assert expected_calibration_error(bins)[0] == pytest.approx(0.5 * 0.3 + 0.5 * 0.2)


def test_a_bin_holds_its_lower_edge_and_the_last_one_1():
    scores = np.array([[0.0], [0.25], [0.5], [0.75], [1.0]])
    assert bin_scores(scores, np.zeros((5, 1)), bins=4).count.tolist() == [[1, 1, 1, 2]]


@pytest.mark.parametrize("seed", range(5))
def test_the_twin_agrees(seed):
    random = np.random.default_rng(seed)
    shape = (50, 4)
    scores = random.random(shape, np.float32)
    scores[0] = (0, 1, 0.5, 0.2)
    targets = (random.random(shape) < scores).astype(np.uint8)
    ignore = random.random(shape) < 0.2
    bins = bin_scores(scores, targets, ignore, bins=15)
    expected = [
        literal_expected_calibration_error(scores[:, c], targets[:, c], ignore[:, c], 15)
        for c in range(4)
    ]
    np.testing.assert_allclose(expected_calibration_error(bins), expected, atol=1e-12)
    pooled = literal_expected_calibration_error(scores, targets, ignore, 15)
    assert expected_calibration_error(bins.pooled) == pytest.approx(pooled, abs=1e-12)


def test_true_probabilities_are_calibrated_and_doubled_odds_are_not():
    random = np.random.default_rng(0)
    scores = random.random((200_000, 1))
    targets = random.random(scores.shape) < scores
    right = expected_calibration_error(bin_scores(scores, targets, bins=15))
    wrong = expected_calibration_error(bin_scores(np.sqrt(scores), targets, bins=15))
    assert right[0] < 0.005 and wrong[0] == pytest.approx(1 / 6, abs=0.01)


def test_ignored_and_empty():
    scores, targets = np.array([[0.9, 0.5], [0.2, 0.5]]), np.array([[0, 1], [0, 1]])
    bins = bin_scores(scores, targets, np.array([[1, 1], [0, 1]]), bins=5)
    assert bins.count.sum(axis=1).tolist() == [1, 0]
    assert np.isnan(bins.mean_score[1]).all() and np.isnan(bins.positive_share[1]).all()
    error = expected_calibration_error(bins)
    assert error[0] == pytest.approx(0.2) and np.isnan(error[1])
