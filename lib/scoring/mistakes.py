"""Missed labels and false alarms: verdicts, pairs of labels, and the worst entries.

Shapes: N images, C labels.
"""

from typing import NamedTuple

import numpy as np

CORRECT, MISSED, FALSE_ALARM = "correct", "missed", "false alarm"


class Verdicts(NamedTuple):
    """Entries by their verdict at a threshold, bool arrays; ignored entries are in none."""

    correct: np.ndarray
    missed: np.ndarray
    false_alarm: np.ndarray


class Pair(NamedTuple):
    """Two labels that are mistaken in the same images: in how many, and in how many they would
    be if the mistakes had nothing to do with each other."""

    first: int
    second: int
    images: int
    expected: float


def verdicts(
    scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray, thresholds: np.ndarray | float
) -> Verdicts:
    """Compare predictions, `score >= threshold` (one, or (C,)), with targets (N, C)."""
    predicted, positive, kept = scores >= thresholds, targets == 1, ignore == 0
    return Verdicts(
        predicted & positive & kept, ~predicted & positive & kept, predicted & ~positive & kept
    )


def count_cooccurrences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """In how many images a mark of `first` (N, C) occurs with one of `second`: int (C, C).

    Row: the label in `first`, column: the label in `second`.
    """
    # float32 holds whole numbers to 2 ** 24, and multiplies far faster than integers do
    return (first.T.astype(np.float32) @ second.astype(np.float32)).round().astype(np.int64)


def pairs(first: np.ndarray, second: np.ndarray, limit: int) -> list[Pair]:
    """The pairs of different labels whose marks occur together in two images or more, and in more
    than by chance: `sum of first_i * sum of second_j / N`.

    Sorted by how many more images these are, ties by label order; a pair of twice the same marks
    counts once, its earlier label first.
    """
    met = count_cooccurrences(first, second)
    expected = np.outer(first.sum(axis=0), second.sum(axis=0)) / max(len(first), 1)
    excess = met - expected
    allowed = (excess > 0) & (met > 1) & ~np.eye(len(met), dtype=bool)
    if first is second:
        allowed = np.triu(allowed)
    found = np.flatnonzero(allowed)
    best = found[np.argsort(-excess.flat[found], kind="stable")[:limit]]
    rows, columns = np.unravel_index(best, met.shape)
    return [
        Pair(int(i), int(j), int(met[i, j]), float(expected[i, j]))
        for i, j in zip(rows, columns, strict=True)
    ]


def worst_entries(scores: np.ndarray, marks: np.ndarray, highest: bool) -> list[tuple[int, int]]:
    """The marked entries (row, column), each image's worst alone: those of the `highest` scores
    first, as of false alarms, or of the lowest, as of missed labels; ties in file and label order.
    """
    badness = np.where(marks, -scores if highest else scores, np.inf)
    columns = badness.argmin(axis=1)
    least = badness[np.arange(len(badness)), columns]
    rows = np.argsort(least, kind="stable")[: np.isfinite(least).sum()]
    return list(zip(rows.tolist(), columns[rows].tolist(), strict=True))
