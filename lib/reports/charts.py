"""Charts of the report: from numbers to SVG paths, which a template puts on the page.

Shapes: N images, C labels, P positives, K bins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lib.scoring.calibration import Bins
from lib.scoring.pr_curves import at_levels

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 44  # around the plotted area
LEAST_SHARE = 1e-4  # where the logarithmic axis begins
LEVELS = 100  # recalls at which long curves are read off
MIN_BIN_ENTRIES = 30  # bins with fewer are drawn as unreliable


def x(value):
    """Pixels from the left, of 0..1."""
    return np.round(LEFT + np.asarray(value) * (WIDTH - LEFT - RIGHT), 1)


def y(value):
    """Pixels from the top, of 0..1."""
    return np.round(HEIGHT - BOTTOM - np.asarray(value) * (HEIGHT - TOP - BOTTOM), 1)


def log_y(share):
    """Pixels from the top, of a share on a logarithmic axis; smaller ones lie at its foot."""
    decades = np.log10(np.maximum(share, LEAST_SHARE)) / -np.log10(LEAST_SHARE)
    return y(1 + decades)


# positions in pixels with their text
X_TICKS, Y_TICKS = (
    [(float(position(value)), f"{value:g}") for value in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    for position in (x, y)
)
LOG_TICKS = [(float(log_y(10.0**-n)), f"{10.0**-n:g}") for n in range(5)]
DIAGONAL = f"M{x(0):g},{y(0):g}L{x(1):g},{y(1):g}"


def curve_path(precision: np.ndarray) -> str:
    """The steps of a precision-recall curve (P,); those that look alike are one."""
    if not len(precision):
        return ""
    if len(precision) > LEVELS:
        precision = at_levels(precision, LEVELS)[1:]
    heights = y(precision)
    ends = np.flatnonzero(np.append(heights[1:] != heights[:-1], True))
    recalls = x((ends + 1) / len(precision))
    return f"M{x(0):g},{heights[0]:g}{_steps(heights[ends], recalls)}"


def bars_path(counts: np.ndarray) -> str:
    """The outline of bars: the share of all entries that each of K bins holds."""
    if not counts.sum():
        return ""
    edges = x(np.arange(1, len(counts) + 1) / len(counts))
    return f"M{x(0):g},{y(0):g}{_steps(log_y(counts / counts.sum()), edges)}V{y(0):g}Z"


def _steps(heights: np.ndarray, edges: np.ndarray) -> str:
    return "".join(f"V{high:g}H{right:g}" for high, right in zip(heights, edges, strict=True))


def score_paths(
    precision: np.ndarray, reliability: Bins, histogram: Bins, cutoff: float | None
) -> dict[str, str]:
    """All paths, by key, of the charts of scores: of one label, or of all pooled. Of the
    reliability diagram a `line` through points, `dots` for bins with many entries, and for those
    with `few`. `cutoff` None draws none."""
    there = np.flatnonzero(reliability.num_entries)
    entries, positive, score_sum = (values[there] for values in reliability)
    points = [
        f"{right:g},{high:g}"
        for right, high in zip(x(score_sum / entries), y(positive / entries), strict=True)
    ]
    dots = [f"M{point}h0" for point in points]
    return {
        "curve": curve_path(precision),
        "line": "M" + "L".join(points) if points else "",
        "dots": "".join(dot for dot, n in zip(dots, entries, strict=True) if n >= MIN_BIN_ENTRIES),
        "few": "".join(dot for dot, n in zip(dots, entries, strict=True) if n < MIN_BIN_ENTRIES),
        "positives": bars_path(histogram.positive),
        "negatives": bars_path(histogram.num_entries - histogram.positive),
        "cutoff": "" if cutoff is None else f"M{x(cutoff):g},{y(0):g}V{y(1):g}",
    }


def matrix(counts: np.ndarray, labels: Sequence[str], limit: int) -> dict[str, Any]:
    """Counts (C, C) of the `limit` labels with the largest sums of row and column, as a table: the
    `names` of these in label order, and `cells` (row, column, count, strength) where a count is not
    0; a cell's strength is its count's part of the largest one."""
    weight = counts.sum(axis=0) + counts.sum(axis=1)
    chosen = np.sort(np.argsort(-weight, kind="stable")[:limit])
    chosen = chosen[weight[chosen] > 0]
    part = counts[np.ix_(chosen, chosen)]
    cells = [
        (int(row), int(column), int(part[row, column]), float(part[row, column] / part.max()))
        for row, column in zip(*np.nonzero(part), strict=True)
    ]
    return {"names": [labels[column] for column in chosen], "cells": cells}
