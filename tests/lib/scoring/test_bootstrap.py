"""The bootstrap: against images that are written out, and known answers."""

import numpy as np
import pytest

from lib.scoring.bootstrap import (
    interval,
    resample_counts,
    resampled_average_precision,
    resampled_mean,
)
from lib.scoring.metrics import average_precision
from tests.helpers.twins import literal_resampled_average_precision, random_case


@pytest.mark.parametrize("seed", range(4))
def test_the_twin_agrees(seed):
    scores, targets, ignore = random_case(seed)
    targets[:, 1] = np.arange(len(scores)) == 3  # one positive, which many resamples lack
    counts = resample_counts(len(scores), 12, seed)
    found = resampled_average_precision(scores, targets, ignore, counts)
    twin = literal_resampled_average_precision(scores, targets, ignore, counts)
    np.testing.assert_allclose(found, twin, atol=1e-12)
    assert np.isnan(found[0]).all()


def test_every_image_once_gives_the_metric():
    case = random_case(0)
    once = resampled_average_precision(*case, np.ones((23, 1), np.uint16))
    expected = average_precision(*case)
    np.testing.assert_allclose(np.nan_to_num(once[:, 0]), expected, atol=1e-12)
    assert resampled_mean(once)[0] == pytest.approx(expected.mean(), abs=1e-12)


def test_counts_are_seeded_draws_with_replacement():
    counts = resample_counts(500, 40, seed=3)
    assert (counts.sum(axis=0) == 500).all() and counts.shape == (500, 40)
    assert np.array_equal(counts, resample_counts(500, 40, seed=3))
    assert not np.array_equal(counts, resample_counts(500, 40, seed=4))
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_the_mean_over_labels():
    """A label without any positives counts 0, one whose positives were not drawn not at all."""
    nan = np.nan
    precisions = np.array([[nan, nan], [1.0, 1.0], [0.5, nan], [0.0, 0.2]])
    np.testing.assert_allclose(resampled_mean(precisions), [3 / 4 * 0.5, 3 / 4 * 0.6])


def test_intervals_are_reverse_percentiles():
    """A resample's value lies as far above the estimate as that lies above the truth."""
    values = np.array([*np.arange(101) / 100, np.nan])
    assert interval(values, 0.5) == pytest.approx((0.025, 0.975))
    assert interval(values, 0.4, bounds=(-1, 1)) == pytest.approx((-0.175, 0.775))
    assert interval(values, 0.4) == pytest.approx((0, 0.775))
    assert np.isnan(interval(np.array([np.nan]), 0.5)).all()
    assert interval(np.ones(50), 1.0) == (1, 1)


def test_intervals_hold_the_truth_where_few_images_flatter():
    """Scores that say nothing: AP is the share of positives, 0.05, on ever more images."""
    random = np.random.default_rng(0)
    held, above = 0, 0
    for _ in range(40):
        targets = (random.random((200, 5)) < 0.05).astype(np.uint8)
        scores = random.random(targets.shape)
        estimate = average_precision(scores, targets).mean()
        counts = resample_counts(200, 100, 0)
        values = resampled_mean(resampled_average_precision(scores, targets, targets * 0, counts))
        low, high = interval(values, estimate)
        held += low <= 0.05 <= high
        above += estimate > 0.05
    assert held >= 34 and above >= 35
