"""One temperature that makes scores honest probabilities, and how far from that they are.

Scores are divided by it as logits: `sigmoid(logit(score) / temperature)`. Their order stays, and so
do AP and what a threshold, moved alike, lets through. Shapes: N images, C labels.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from lib.scoring.reliability import CALIBRATION_BINS, bin_scores, expected_calibration_error

COLDEST, HOTTEST = 1e-2, 1e2
NEAREST = 2.0**-25  # half a step of float32 below 1, where a sigmoid has no other values


def calibrate(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Scores in [0, 1] of any shape -> probabilities of the same shape, float64."""
    return expit(_logits(scores) / temperature)


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
        return float((logits * (expit(logits * inverse) - positive)).sum())

    if slope(1 / COLDEST) <= 0:
        return COLDEST
    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    return 1 / brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-9)


def calibration_error(scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray) -> float:
    """Expected calibration error (ECE) over all (image, label) entries that count, in [0, 1].

    That of `lib.scoring.reliability` with 15 bins, all entries pooled. 0 without entries.
    """
    pooled = bin_scores(scores, targets, ignore, bins=CALIBRATION_BINS).pooled
    return float(np.nan_to_num(expected_calibration_error(pooled)))


def _logits(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(np.asarray(scores, float), np.finfo(np.float32).tiny, 1 - NEAREST))
