"""Precision-recall curves: their mean is the average precision, their course the literal one."""

import numpy as np
import pytest

from lib.scoring.metrics import average_precision
from lib.scoring.pr_curves import at_levels, interpolated_precision, mean_curve
from tests.helpers.twins import literal_average_precision, random_case


def test_known_answer():
    """Hits at ranks 1, 3 and 4: precision 1, 2/3, 3/4, of which the last lifts the second."""
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    curve = interpolated_precision(scores, np.array([1, 0, 1, 1]), np.zeros(4))
    np.testing.assert_allclose(curve, [1, 0.75, 0.75])
    np.testing.assert_allclose(at_levels(curve, 6), [1, 1, 1, 0.75, 0.75, 0.75, 0.75])


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_of_a_curve_is_the_average_precision(seed):
    scores, targets, ignore = random_case(seed, rows=40)
    expected = average_precision(scores, targets, ignore)
    for c, precision in enumerate(expected[1:], 1):
        curve = interpolated_precision(scores[:, c], targets[:, c], ignore[:, c])
        assert curve.mean() == pytest.approx(precision, abs=1e-12)
        assert (np.diff(curve) <= 0).all()
    pooled = interpolated_precision(scores, targets, ignore)
    twin = literal_average_precision(scores.ravel(), targets.ravel(), ignore.ravel())
    assert pooled.mean() == pytest.approx(twin, abs=1e-12)


@pytest.mark.parametrize("positives", [1, 3, 7, 49, 100, 101])
def test_levels_match_the_steps(positives):
    curve = np.sort(np.random.default_rng(positives).random(positives))[::-1]
    for j, value in enumerate(at_levels(curve, 100)):
        step = next(p for p in range(1, positives + 1) if p * 100 >= j * positives)
        assert value == curve[step - 1]


def test_labels_without_positives_have_no_curve():
    empty = interpolated_precision(np.array([0.5, 0.4]), np.array([0, 1]), np.array([0, 1]))
    assert len(empty) == 0
    assert len(mean_curve([empty])) == 0
    mean = mean_curve([empty, np.array([1.0]), np.array([0.5, 0.25])], levels=4)
    np.testing.assert_allclose(mean, [0.75, 0.75, 0.75, 0.625, 0.625])
