"""Per-label thresholds, learned from held-out images.

Shapes: N images, C labels. `scores` (N, C), `targets` (N, C) in {0, 1}, `ignore` (N, C) marks the
entries that are left out.
"""

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
        name, at, level = text.partition("@")
        if text == "f1":
            return cls("f1")
        try:
            value = float(level)
        except ValueError:
            value = -1.0
        if name not in ("precision", "recall") or not at or not 0 < value <= 1:
            raise UserError(
                f"--tune-thresholds {text}: choose f1, precision@X or recall@X, X more than 0 and "
                "at most 1, as in precision@0.9"
            )
        return cls(name, value)

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}@{self.level:g}"


class Thresholds(NamedTuple):
    """`values` (C,); `overall` is that of all labels pooled, which the columns in `fallbacks` take,
    each with its reason."""

    values: np.ndarray
    overall: float
    fallbacks: dict[int, str]


def tune_thresholds(
    scores: np.ndarray,
    targets: np.ndarray,
    ignore: np.ndarray,
    criterion: Criterion,
    *,
    default: float,
) -> Thresholds:
    """The best threshold of each label by `criterion`; `default` if even all labels pooled have
    none.

    Labels with fewer than 5 positives or negatives, and those that never reach the required
    precision, take that of all labels pooled.
    """
    values = best_thresholds(scores, targets, ignore, criterion)
    scores_pooled, targets_pooled, ignore_pooled = (
        array.reshape(-1, 1) for array in (scores, targets, ignore)
    )
    overall = float(best_thresholds(scores_pooled, targets_pooled, ignore_pooled, criterion)[0])
    overall = default if np.isnan(overall) else overall
    positive, kept = (targets == 1) & ~ignore, ~ignore
    counts = {"positive": positive.sum(axis=0), "negative": (kept & ~positive).sum(axis=0)}
    fallbacks: dict[int, str] = {}
    for column in range(scores.shape[1]):
        for kind, count in counts.items():
            if count[column] < MIN_EXAMPLES:
                fallbacks.setdefault(column, f"{count[column]} {kind}, fewer than {MIN_EXAMPLES}")
        if np.isnan(values[column]):
            fallbacks.setdefault(column, f"never reaches {criterion}")
    values[list(fallbacks)] = overall
    return Thresholds(values, overall, fallbacks)


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
