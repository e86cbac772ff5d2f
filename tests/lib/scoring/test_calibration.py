"""Temperature and calibration error against slow forms and known answers."""

import numpy as np
import pytest
from scipy.special import expit, logit

from lib.scoring.calibration import COLDEST, HOTTEST, calibrate, calibration_error, fit_temperature
from tests.helpers.twins import literal_calibration_error


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


@pytest.mark.parametrize("seed", range(5))
def test_error_matches_the_twin(seed):
    random = np.random.default_rng(seed)
    scores = random.random((30, 4)).astype(np.float32)
    scores[:3, 0] = (0, 1, 1 / 3)
    targets = (random.random((30, 4)) < 0.4).astype(np.uint8)
    ignore = random.random((30, 4)) < 0.3
    assert calibration_error(scores, targets, ignore) == pytest.approx(
        literal_calibration_error(scores, targets, ignore), abs=1e-12
    )
    hidden = np.where(ignore, 1 - targets, targets)
    other = np.where(ignore, 1 - scores, scores)
    assert calibration_error(other, hidden, ignore) == calibration_error(scores, targets, ignore)
    assert fit_temperature(other, hidden, ignore) == fit_temperature(scores, targets, ignore)
    assert calibration_error(scores, targets, np.ones_like(ignore)) == 0
