"""Calibration: how far scores are from probabilities, and the temperature that brings them close.

Scores are divided by it as logits: `sigmoid(logit(score) / temperature)`. Their order stays, and so
do AP and the predictions of a threshold that is converted too.

Shapes: N images, C labels, K bins of equal width: a score s is in bin min(floor(K s), K - 1), so
that a bin includes its lower edge, and the last one 1 too. `ignore` marks entries that are left
out. All in float64.
"""

from typing import NamedTuple

import numpy as np
import scipy  # its parts are imported where they are used first

from lib.scoring.metrics import ratio

CALIBRATION_BINS = 15  # in all that is reported
COLDEST, HOTTEST = 1e-2, 1e2
NEAREST = 2.0**-25  # half a step of float32 below 1, where a sigmoid has no other values


class Bins(NamedTuple):
    """Entries by score: their number in each bin, the number of positives, and the sum of scores;
    all (C, K), or (K,) after `pooled`."""

    num_entries: np.ndarray
    positive: np.ndarray
    score_sum: np.ndarray

    def of_label(self, column: int) -> "Bins":
        """The bins (K,) of one label."""
        return Bins(*(array[column] for array in self))

    @property
    def pooled(self) -> "Bins":
        """The bins of all labels' entries together."""
        return Bins(*(array.sum(axis=0) for array in self))


def bin_scores(scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray, *, bins: int) -> Bins:
    """Sort the entries of each label into `bins` bins of equal width."""
    columns = scores.shape[1]
    kept = ignore == 0
    values = np.asarray(scores, np.float64)[kept]
    cell = np.minimum((values * bins).astype(np.int64), bins - 1)
    cell += np.broadcast_to(np.arange(columns) * bins, scores.shape)[kept]
    weights = (None, targets[kept] == 1, values)
    arrays = (np.bincount(cell, weight, columns * bins) for weight in weights)
    return Bins(*(array.reshape(columns, bins) for array in arrays))


def expected_calibration_error(bins: Bins) -> np.ndarray:
    """ECE (C,) of each label, or () of pooled bins: the mean over entries of their bin's gap.

    `sum_k n_k / n * |mean score of bin k - share of positives in bin k|`; 0 is perfect, and empty
    bins count nothing. nan for a label without entries.
    """
    gaps = np.abs(bins.score_sum - bins.positive).sum(axis=-1)
    return ratio(gaps, bins.num_entries.sum(axis=-1), np.nan)


def calibrate(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Scores in [0, 1] of any shape -> probabilities of the same shape, float64."""
    return scipy.special.expit(_logits(scores) / temperature)


def fit_temperature(scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray) -> float:
    """The temperature with the least negative log-likelihood of all entries that count.

    The likelihood is convex in 1 / temperature, so that its derivative has one zero; it is sought
    between 0.01 and 100, and the nearer end is given where it lies outside. 1 without entries.
    """
    kept = ~np.asarray(ignore, bool)
    if not kept.any():
        return 1.0
    logits, positive = _logits(scores[kept]), targets[kept] == 1

    def slope(inverse: float) -> float:
        return float((logits * (scipy.special.expit(logits * inverse) - positive)).sum())

    if slope(1 / COLDEST) <= 0:
        return COLDEST
    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    return 1 / scipy.optimize.brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-9)


def calibration_error(scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray) -> float:
    """Expected calibration error (ECE) over all (image, label) entries that count, in [0, 1].

    With 15 bins, all entries pooled. 0 without entries.
    """
    pooled = bin_scores(scores, targets, ignore, bins=CALIBRATION_BINS).pooled
    return float(np.nan_to_num(expected_calibration_error(pooled)))


def _logits(scores: np.ndarray) -> np.ndarray:
    limits = np.finfo(np.float32).tiny, 1 - NEAREST
    return scipy.special.logit(np.clip(np.asarray(scores, float), *limits))
