"""Charts of the report: from numbers to SVG paths, which a template puts on the page.

Shapes: N images, C labels, P positives, K bins.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lib.scoring.calibration import Bins
from lib.scoring.pr_curves import at_levels

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 44  # around the plotted area
LEAST_SHARE = 1e-4  # where the logarithmic axis begins
LEVELS = 100  # recalls at which long curves are read off
MIN_BIN_ENTRIES = 30  # bins with fewer are drawn as unreliable

Ticks = list[tuple[float, str]]


class SvgPath(NamedTuple):
    """A line or area; `name` is for the legend, `key` lets the page replace it."""

    d: str
    style: str
    name: str = ""
    key: str = ""


class Chart(NamedTuple):
    """One chart: `alt` says what it shows; ticks are positions in pixels with their text."""

    title: str
    alt: str
    x_label: str
    y_label: str
    x_ticks: Ticks
    y_ticks: Ticks
    paths: list[SvgPath]


class Matrix(NamedTuple):
    """A table of counts as a picture: a cell (row, column, count, strength in 0..1) where not 0."""

    alt: str
    names: list[str]
    cells: list[tuple[int, int, int, float]]


def unit_ticks(position) -> Ticks:
    return [(float(position(value)), f"{value:g}") for value in (0, 0.2, 0.4, 0.6, 0.8, 1)]


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


def curve_path(precision: np.ndarray) -> str:
    """The steps of a precision-recall curve (P,); those that look alike are one."""
    if not len(precision):
        return ""
    if len(precision) > LEVELS:
        precision = at_levels(precision, LEVELS)[1:]
    heights = y(precision)
    ends = np.flatnonzero(np.append(heights[1:] != heights[:-1], True))
    recalls = x((ends + 1) / len(precision))
    steps = zip(heights[ends], recalls, strict=True)
    return f"M{x(0):g},{heights[0]:g}" + "".join(f"V{high:g}H{right:g}" for high, right in steps)


def bars_path(counts: np.ndarray) -> str:
    """The outline of bars: the share of all entries that each of K bins holds."""
    if not counts.sum():
        return ""
    heights = log_y(counts / counts.sum())
    edges = x(np.arange(1, len(counts) + 1) / len(counts))
    steps = "".join(f"V{high:g}H{right:g}" for high, right in zip(heights, edges, strict=True))
    return f"M{x(0):g},{y(0):g}{steps}V{y(0):g}Z"


def reliability_paths(bins: Bins) -> dict[str, str]:
    """Bins (K,) as a `line` through points; `dots` of those with many entries, and with `few`."""
    there = np.flatnonzero(bins.num_entries)
    points = [
        f"{right:g},{high:g}"
        for right, high in zip(
            x(bins.mean_score[there]), y(bins.positive_share[there]), strict=True
        )
    ]
    many = bins.num_entries[there] >= MIN_BIN_ENTRIES
    return {
        "line": "M" + "L".join(points) if points else "",
        "dots": "".join(f"M{at}h0" for at, enough in zip(points, many, strict=True) if enough),
        "few": "".join(f"M{at}h0" for at, enough in zip(points, many, strict=True) if not enough),
    }


def score_paths(
    precision: np.ndarray, reliability: Bins, histogram: Bins, cutoff: float | None
) -> dict[str, str]:
    """All paths, by key, of the charts that `score_charts` shows; `cutoff` None draws none."""
    return {
        "curve": curve_path(precision),
        **reliability_paths(reliability),
        "positives": bars_path(histogram.positive),
        "negatives": bars_path(histogram.negative),
        "cutoff": "" if cutoff is None else f"M{x(cutoff):g},{y(0):g}V{y(1):g}",
    }


def score_charts(paths: dict[str, str], bins: int) -> list[Chart]:
    """Precision-recall curve, reliability diagram and histogram of one label, or of all pooled."""
    keyed = {key: SvgPath(d, key, "", key) for key, d in paths.items()}
    diagonal = SvgPath(f"M{x(0):g},{y(0):g}L{x(1):g},{y(1):g}", "guide", "perfect calibration")
    cut = keyed["cutoff"]._replace(style="guide", name="counted as predicted from here")
    decades = [(float(log_y(10.0**-n)), f"{10.0**-n:g}") for n in range(5)]
    return [
        Chart(
            "Precision and recall", "precision-recall curve", "recall",
            "interpolated precision", unit_ticks(x), unit_ticks(y), [keyed["curve"]],
        ),
        Chart(
            "Calibration", "reliability diagram", f"mean score of a bin ({bins} bins)",
            "share of positives", unit_ticks(x), unit_ticks(y),
            [
                diagonal,
                keyed["line"],
                keyed["dots"]._replace(name=f"bin of {MIN_BIN_ENTRIES} entries or more"),
                keyed["few"]._replace(name="bin of fewer"),
            ],
        ),
        Chart(
            "Scores", "histograms of the scores", "score", "share of entries (log scale)",
            unit_ticks(x), decades,
            [
                keyed["negatives"]._replace(name="negatives"),
                keyed["positives"]._replace(name="positives"),
                cut,
            ],
        ),
    ]  # fmt: skip


def overview_chart(lines: Sequence[tuple[str, str, np.ndarray]]) -> Chart:
    """Several precision-recall curves as one chart, from (name, style, precision)."""
    return Chart(
        "Precision and recall",
        "precision-recall curves of " + ", ".join(name for name, _, _ in lines),
        "recall",
        "interpolated precision",
        unit_ticks(x),
        unit_ticks(y),
        [SvgPath(curve_path(precision), style, name) for name, style, precision in lines],
    )


def matrix(counts: np.ndarray, labels: Sequence[str], limit: int) -> Matrix:
    """Counts (C, C) of the `limit` labels with the largest sums of row and column, in label order.

    A cell's strength is its count's part of the largest one.
    """
    weight = counts.sum(axis=0) + counts.sum(axis=1)
    chosen = np.sort(np.argsort(-weight, kind="stable")[:limit])
    chosen = chosen[weight[chosen] > 0]
    part = counts[np.ix_(chosen, chosen)]
    cells = [
        (int(row), int(column), int(part[row, column]), float(part[row, column] / part.max()))
        for row, column in zip(*np.nonzero(part), strict=True)
    ]
    names = [labels[column] for column in chosen]
    return Matrix(f"which of {len(names)} labels are taken for each other", names, cells)
