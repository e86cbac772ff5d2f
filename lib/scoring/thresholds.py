"""Per-label thresholds, learned from held-out images.

Shapes: N images, C labels. `scores` (N, C), `targets` (N, C) in {0, 1}, `ignore` (N, C) marks the
entries that are left out.
"""

import contextlib
from typing import NamedTuple

import numpy as np

from lib.common.errors import UserError

MIN_EXAMPLES = 5  # positives, and negatives, that a label needs for a threshold of its own


class Criterion(NamedTuple):
    """What a threshold optimises: `f1`, or the other of precision and recall at a `precision` or
    `recall` of at least `level`."""

    name: str
    level: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Criterion":
        """Read `f1`, `precision@0.9` or `recall@0.9`."""
        name, _, level = text.partition("@")
        if text == "f1":
            return cls(text)
        with contextlib.suppress(ValueError):
            if name in ("precision", "recall") and 0 < float(level) <= 1:
                return cls(name, float(level))
        raise UserError(
            f"--tune-thresholds {text}: choose f1, precision@X or recall@X, X more than 0 and at "
            "most 1, as in precision@0.9"
        )

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}@{self.level:g}"


def tune_thresholds(
    scores: np.ndarray,
    targets: np.ndarray,
    ignore: np.ndarray,
    criterion: Criterion,
    *,
    default: float,
) -> tuple[np.ndarray, float, dict[int, str]]:
    """The best threshold of each label by `criterion` (C,), that of all labels pooled, and the
    columns that take the pooled one, each with its reason.

    These are labels with fewer than 5 positives or negatives, and those that never reach the
    required precision. Where even all labels pooled have no threshold, theirs is `default`.
    """
    values = best_thresholds(scores, targets, ignore, criterion)
    pooled, truth, ignored = (array.reshape(-1, 1) for array in (scores, targets, ignore))
    overall = float(best_thresholds(pooled, truth, ignored, criterion)[0])
    overall = default if np.isnan(overall) else overall
    positives = ((targets == 1) & ~ignore).sum(axis=0)
    negatives = (~ignore).sum(axis=0) - positives
    fallbacks: dict[int, str] = {}
    for column, value in enumerate(values):
        if positives[column] < MIN_EXAMPLES:
            fallbacks[column] = f"{positives[column]} positive, fewer than {MIN_EXAMPLES}"
        elif negatives[column] < MIN_EXAMPLES:
            fallbacks[column] = f"{negatives[column]} negative, fewer than {MIN_EXAMPLES}"
        elif np.isnan(value):
            fallbacks[column] = f"never reaches {criterion}"
    values[list(fallbacks)] = overall
    return values, overall, fallbacks


def best_thresholds(
    scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray, criterion: Criterion
) -> np.ndarray:
    """The threshold t of each label (C,) for which `score >= t` does best; NaN where none will do.

    Every distinct score is tried. `f1`: the largest F1, of equals the highest t. `precision@X`: the
    largest recall among those with a precision of at least X. `recall@X`: the largest precision
    among those with a recall of at least X, of equals the larger recall.
    """
    scores, kept = np.asarray(scores), ~np.asarray(ignore, bool)
    order = np.argsort(np.where(kept, -scores, np.inf), axis=0, kind="stable")
    ranked, kept, positive = (
        np.take_along_axis(array, order, axis=0) for array in (scores, kept, (targets == 1) & kept)
    )
    # of equal scores, the last one has the counts of all
    last = kept.copy()
    last[:-1] &= ~kept[1:] | (ranked[1:] != ranked[:-1])
    hits, predicted = positive.cumsum(axis=0), kept.cumsum(axis=0)
    positives = positive.sum(axis=0)
    precision = hits / np.maximum(predicted, 1)
    if criterion.name == "f1":
        rated, allowed = 2 * hits / np.maximum(predicted + positives, 1), last
    elif criterion.name == "precision":
        rated, allowed = hits.astype(float), last & (precision >= criterion.level)
    else:
        rated = precision
        allowed = last & (hits / np.maximum(positives, 1) >= criterion.level)
    rated = np.where(allowed & (positives > 0), rated, -1.0)
    if criterion.name == "recall":
        best = len(rated) - 1 - rated[::-1].argmax(axis=0)
    else:
        best = rated.argmax(axis=0)
    columns = np.arange(scores.shape[1])
    return np.where(rated[best, columns] >= 0, ranked[best, columns].astype(float), np.nan)
