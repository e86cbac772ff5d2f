"""Temperature, bins and calibration error against slow forms and known answers."""

import numpy as np
import pytest
from scipy.special import expit, logit

from lib.scoring.calibration import (
    COLDEST,
    HOTTEST,
    bin_scores,
    calibrate,
    calibration_error,
    expected_calibration_error,
    fit_temperature,
)
from tests.helpers.twins import literal_expected_calibration_error


def drawn(temperature, rows=4000, columns=3, seed=0):
    """Scores whose logits are `temperature` times too far from 0, and targets drawn truly."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 2, (rows, columns))
    targets = (random.random((rows, columns)) < expit(truth)).astype(np.uint8)
    return expit(truth * temperature).astype(np.float32), targets, np.zeros(truth.shape, bool)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_of_drawn_targets_is_found(temperature):
    case = drawn(temperature)
    found = fit_temperature(*case)
    assert found == pytest.approx(temperature, rel=0.06)
    assert calibration_error(calibrate(case[0], found), *case[1:]) < 0.02
    if temperature != 1:
        assert calibration_error(*case) > 0.05


def test_no_other_temperature_is_likelier():
    scores, targets, ignore = drawn(2.0, rows=60)
    ignore[::3] = True

    def loss(temperature):
        p = expit(logit(scores.astype(float)) / temperature)[~ignore]
        y = targets[~ignore]
        return -(y * np.log(p) + (1 - y) * np.log1p(-p)).sum()

    found = fit_temperature(scores, targets, ignore)
    assert all(loss(found) <= loss(found * factor) for factor in (0.5, 0.99, 1.01, 2))


def test_extremes_stay_within_bounds():
    ignore = np.zeros((4, 1), bool)
    right = np.array([[0.9], [0.8], [0.2], [0.1]], np.float32)
    targets = np.array([[1], [1], [0], [0]])
    assert fit_temperature(right, targets, ignore) == COLDEST
    assert fit_temperature(1 - right, targets, ignore) == HOTTEST
    assert fit_temperature(right, targets, ~ignore) == 1
    edges = calibrate(np.array([0.0, 1.0], np.float32), 2.0)
    assert np.isfinite(logit(edges)).all() and edges[0] < 1e-9 < 1 - 1e-3 < edges[1]


def test_bins_of_a_known_answer():
    """A bin holds its lower edge, and the last one 1 too."""
    scores, targets = np.array([[0.0], [0.25], [0.5], [0.75], [1.0]]), np.array([[0, 1, 1, 1, 1]]).T
    bins = bin_scores(scores, targets, np.zeros((5, 1)), bins=2)
    assert bins.num_entries.tolist() == [[2, 3]] and bins.positive.tolist() == [[1, 3]]
    assert bins.score_sum.tolist() == [[0.25, 2.25]]
    assert expected_calibration_error(bins)[0] == pytest.approx((0.75 + 0.75) / 5)


@pytest.mark.parametrize("seed", range(5))
def test_errors_match_the_twin(seed):
    random = np.random.default_rng(seed)
    scores = random.random((50, 4), np.float32)
    scores[0] = (0, 1, 1 / 3, 0.2)
    targets = (random.random((50, 4)) < scores).astype(np.uint8)
    ignore = random.random((50, 4)) < 0.3
    bins = bin_scores(scores, targets, ignore, bins=15)
    columns = zip(scores.T, targets.T, ignore.T, strict=True)
    expected = [literal_expected_calibration_error(*column, 15) for column in columns]
    np.testing.assert_allclose(expected_calibration_error(bins), expected, atol=1e-12)
    pooled = literal_expected_calibration_error(scores, targets, ignore, 15)
    assert calibration_error(scores, targets, ignore) == pytest.approx(pooled, abs=1e-12)
    hidden = np.where(ignore, 1 - targets, targets)
    other = np.where(ignore, 1 - scores, scores)
    assert fit_temperature(other, hidden, ignore) == fit_temperature(scores, targets, ignore)


def test_ignored_and_empty():
    scores, targets = np.array([[0.9, 0.5], [0.2, 0.5]]), np.array([[0, 1], [0, 1]])
    bins = bin_scores(scores, targets, np.array([[1, 1], [0, 1]]), bins=5)
    error = expected_calibration_error(bins)
    assert error[0] == pytest.approx(0.2) and np.isnan(error[1])
    assert calibration_error(scores, targets, np.ones((2, 2))) == 0
