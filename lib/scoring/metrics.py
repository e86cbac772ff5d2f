"""Scores of a multi-label classifier, as pure functions of arrays; all in [0, 1], in float64.

Shapes: N images, C labels. `scores` (N, C) in [0, 1], `targets` (N, C) in {0, 1}, `ignore` (N, C)
marks the entries that are left out, None for none.
"""

from typing import NamedTuple

import numpy as np


class F1Scores(NamedTuple):
    """Precision, recall and F1, averaged over labels (c) and pooled over all labels (o)."""

    cp: float
    cr: float
    cf1: float
    op: float
    orec: float
    of1: float

    def as_dict(self, prefix: str) -> dict[str, float]:
        """`{prefix_cp, prefix_cr, prefix_cf1, prefix_op, prefix_or, prefix_of1}`."""
        names = ("cp", "cr", "cf1", "op", "or", "of1")
        return {f"{prefix}_{name}": value for name, value in zip(names, self, strict=True)}


def average_precision(
    scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray | None = None
) -> np.ndarray:
    """Average precision per label (C,): the area under the interpolated precision-recall curve.

    Samples are sorted by descending score, ties in file order; precision is made non-increasing
    from the right. A label without positives counts 0.
    """
    scores, positive, kept = _prepared(scores, targets, ignore)
    order = np.argsort(np.where(kept, -scores, np.inf), axis=0, kind="stable")
    hit = np.take_along_axis(positive, order, axis=0)
    counted = np.take_along_axis(kept, order, axis=0).cumsum(axis=0)
    precision = hit.cumsum(axis=0) / np.maximum(counted, 1)
    interpolated = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return ratio((interpolated * hit).sum(axis=0), hit.sum(axis=0), empty=0.0)


def mean_average_precision(
    scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray | None = None
) -> float:
    """Mean over all labels of `average_precision`."""
    return float(average_precision(scores, targets, ignore).mean())


# measured every epoch on the raw and the EMA model: history.jsonl, TensorBoard; results.json too
EPOCH_METRICS = {"mAP": mean_average_precision}


def f1_scores(
    scores: np.ndarray,
    targets: np.ndarray,
    ignore: np.ndarray | None = None,
    *,
    threshold: float | np.ndarray = 0.5,
    topk: int | None = None,
) -> F1Scores:
    """Precision, recall and F1 where `score >= threshold` predicts a label; (C,) for one each.

    With `topk`, only each sample's k highest scores may predict a label: chosen over all labels,
    before `ignore` is applied. CP and CR average over labels, 0/0 (a label never predicted, or
    never present) counting 1; OP and OR pool the counts, 0/0 giving 0; CF1 and OF1 are their
    harmonic means.
    """
    scores, positive, kept = _prepared(scores, targets, ignore)
    predicted = (scores >= threshold) & kept
    if topk is not None:
        predicted &= top_labels(scores, topk)
    hits = (predicted & positive).sum(axis=0)
    predictions, positives = predicted.sum(axis=0), positive.sum(axis=0)
    cp = float(ratio(hits, predictions, empty=1.0).mean())
    cr = float(ratio(hits, positives, empty=1.0).mean())
    op = float(ratio(hits.sum(), predictions.sum(), empty=0.0))
    orec = float(ratio(hits.sum(), positives.sum(), empty=0.0))
    return F1Scores(cp, cr, _harmonic(cp, cr), op, orec, _harmonic(op, orec))


def summarize(
    scores: np.ndarray,
    targets: np.ndarray,
    ignore: np.ndarray | None = None,
    *,
    threshold: float,
    topk: int,
) -> dict[str, float]:
    """`EPOCH_METRICS`, `threshold_*` and `topk_*` of a split, by name."""
    arrays = (scores, targets, ignore)
    return {
        **{name: metric(*arrays) for name, metric in EPOCH_METRICS.items()},
        **f1_scores(*arrays, threshold=threshold).as_dict("threshold"),
        **f1_scores(*arrays, threshold=threshold, topk=topk).as_dict("topk"),
    }


def top_labels(scores: np.ndarray, k: int) -> np.ndarray:
    """Marks (N, C) of each sample's k highest scores; ties go to the earlier label."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    marks = np.zeros(scores.shape, bool)
    np.put_along_axis(marks, order, True, axis=1)
    return marks


def _prepared(scores, targets, ignore) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, and which entries are positive and which are kept."""
    scores, positive = np.asarray(scores), np.asarray(targets) == 1
    kept = np.ones(scores.shape, bool) if ignore is None else np.asarray(ignore) != 1
    return scores, positive & kept, kept


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def ratio(
    part: np.ndarray | np.integer, whole: np.ndarray | np.integer, empty: float
) -> np.ndarray:
    """`part / whole`, and `empty` where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), empty)
