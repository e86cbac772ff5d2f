"""Bootstrap over images: how far a mean average precision would move with other test images.

Shapes: N images, C labels, P positives of a label, R resamples.
"""

import numpy as np

LEVEL = 0.95


def resample_counts(images: int, resamples: int, seed: int) -> np.ndarray:
    """How often each resample contains each image: uint16 (images, resamples).

    A resample draws as many images as there are, each independently with replacement. The same
    arguments give the same counts, so that runs on the same images can be compared in pairs.
    """
    random = np.random.default_rng(seed)
    counts = np.empty((resamples, images), np.uint16)
    for row in counts:
        row[:] = np.bincount(random.integers(0, images, images), minlength=images)
    return np.ascontiguousarray(counts.T)


def resampled_average_precision(
    scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Average precision of each label in each resample: (C, R); nan where it has no positives.

    Equals `average_precision` of the images repeated by `counts` (N, R), with the copies of an
    image next to each other, in file order. Within a positive image's copies precision can only
    rise, so the interpolated curve needs it only at their end: with w the counts in order of score
    and y the targets, precision is `cumsum(w y) / cumsum(w)` at each positive, made non-increasing
    from the right, and AP is its mean over positives weighted by w. Sorts once per label.
    """
    results = np.full((scores.shape[1], counts.shape[1]), np.nan)
    for column, result in enumerate(results):
        order = np.argsort(-scores[:, column], kind="stable")
        order = order[ignore[order, column] == 0]
        places = np.flatnonzero(targets[order, column] == 1)
        if not len(places):
            continue
        weights = counts[order[: places[-1] + 1]]
        hits = weights[places].astype(np.float64)  # (P, R)
        # images since the positive before, itself included: sums of the rows between
        starts = np.concatenate([[0], places[:-1] + 1])
        seen = np.add.reduceat(weights, starts, axis=0, dtype=np.int64).cumsum(axis=0)
        precision = hits.cumsum(axis=0) / np.maximum(seen, 1)
        interpolated = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        positives = hits.sum(axis=0)
        there = positives > 0
        result[there] = (interpolated * hits).sum(axis=0)[there] / positives[there]
    return results


def resampled_mean(precisions: np.ndarray) -> np.ndarray:
    """mAP of each resample (R,) from `resampled_average_precision` (C, R).

    The mean over the labels that have positives in the resample, times the fraction of labels that
    have any in the test split: a label without positives counts 0, as in mAP, and one whose rare
    positives were just not drawn is left out of that resample.
    """
    known = ~np.isnan(precisions)
    share = known.any(axis=1).mean()
    return share * np.nansum(precisions, axis=0) / np.maximum(known.sum(axis=0), 1)


def interval(
    values: np.ndarray, estimate: float, bounds: tuple[float, float] = (0, 1)
) -> tuple[float, float]:
    """The 95 % interval of an `estimate` whose `values` in resamples are given; nan is left out.

    Reverse percentiles: `2 * estimate - q` for the quantiles q that hold the middle 95 % of the
    values, cut at `bounds`. AP is larger on few images than on many, and on resamples, which repeat
    images, by as much again: reverse percentiles correct for this, while plain ones would often lie
    above the true value. nan without values.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    high, low = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.clip([2 * estimate - low, 2 * estimate - high], *bounds)
    return float(low), float(high)
