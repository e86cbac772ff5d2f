"""How far scores can be read as probabilities, as pure functions of arrays, in float64.

Shapes: N images, C labels, K bins of equal width: a score s is in bin min(floor(K s), K - 1), so
that a bin holds its lower edge, and the last one 1 too. `ignore` marks entries that are left out.
"""

from typing import NamedTuple

import numpy as np

CALIBRATION_BINS = 15  # of what is reported


class Bins(NamedTuple):
    """Entries by score: how many in each bin, how many of them positive, and the scores' sum; all
    (C, K), or (K,) after `pooled`."""

    count: np.ndarray
    positive: np.ndarray
    score_sum: np.ndarray

    @property
    def negative(self) -> np.ndarray:
        return self.count - self.positive

    @property
    def mean_score(self) -> np.ndarray:
        """Mean score of each bin; nan where it is empty."""
        return _ratio(self.score_sum, self.count, np.nan)

    @property
    def positive_share(self) -> np.ndarray:
        """Share of each bin's entries that are positive; nan where it is empty."""
        return _ratio(self.positive, self.count, np.nan)

    @property
    def pooled(self) -> "Bins":
        """The bins of all labels' entries together."""
        return Bins(*(array.sum(axis=0) for array in self))


def bin_scores(
    scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray | None = None, *, bins: int
) -> Bins:
    """Sort the entries of each label into `bins` bins of equal width."""
    columns = scores.shape[1]
    kept = np.ones(scores.shape, bool) if ignore is None else np.asarray(ignore) != 1
    values = np.asarray(scores, np.float64)[kept]
    cell = np.minimum((values * bins).astype(np.int64), bins - 1)
    cell += np.broadcast_to(np.arange(columns) * bins, scores.shape)[kept]
    weights = (None, np.asarray(targets)[kept] == 1, values)
    arrays = (np.bincount(cell, weight, columns * bins) for weight in weights)
    return Bins(*(array.reshape(columns, bins) for array in arrays))


def expected_calibration_error(bins: Bins) -> np.ndarray:
    """ECE (C,) of each label, or () of pooled bins: the mean over entries of their bin's gap.

    `sum_k n_k / n * |mean score of bin k - share of positives in bin k|`; 0 is perfect, and empty
    bins count nothing. nan for a label without entries.
    """
    gaps = np.abs(bins.score_sum - bins.positive).sum(axis=-1)
    return _ratio(gaps, bins.count.sum(axis=-1), np.nan)


def _ratio(part: np.ndarray, whole: np.ndarray, empty: float) -> np.ndarray:
    """`part / whole`, and `empty` where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), empty)
