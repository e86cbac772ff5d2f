"""Interpolated precision-recall curves, as pure functions of arrays; all in [0, 1], in float64.

Shapes: N images, C labels, P positives. `ignore` marks the entries that are left out.
"""

from collections.abc import Sequence

import numpy as np


def interpolated_precision(
    scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray
) -> np.ndarray:
    """The curve of one label, or of all entries pooled, from arrays of any equal shape: (P,).

    Entry p - 1 is the precision at recall p / P: entries are sorted by descending score, ties in
    file order, and precision is made non-increasing from the right. The curve is constant on
    ((p - 1) / P, p / P], and its mean is the average precision. Empty without positives.
    """
    scores, positive = scores[ignore == 0], targets[ignore == 0] == 1
    ranks = np.flatnonzero(positive[np.argsort(-scores, kind="stable")]) + 1
    precision = np.arange(1, len(ranks) + 1) / ranks
    return np.maximum.accumulate(precision[::-1])[::-1]


def at_levels(precision: np.ndarray, levels: int = 100) -> np.ndarray:
    """A curve (P,) of one positive or more at the recalls 0, 1 / levels, ..., 1: (levels + 1,).

    The value at recall 0 is the one to its right.
    """
    steps = np.arange(levels + 1) * len(precision)
    return precision[np.maximum(-(-steps // levels), 1) - 1]  # whole numbers: no rounding


def mean_curve(curves: Sequence[np.ndarray], levels: int = 1000) -> np.ndarray:
    """The mean of the curves of labels at equal recalls, (levels + 1,); those without positives
    are left out. Empty where no label has any."""
    known = [at_levels(curve, levels) for curve in curves if len(curve)]
    return np.mean(known, axis=0) if known else np.empty(0)
