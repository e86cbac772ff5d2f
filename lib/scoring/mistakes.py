"""Missed labels and false alarms: verdicts, pairs of labels, and the worst entries.

Shapes: N images, C labels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

CORRECT, MISSED, FALSE_ALARM = "correct", "missed", "false alarm"


class Verdicts(NamedTuple):
    """Entries by their verdict at a threshold, bool arrays; ignored entries are in none."""

    correct: np.ndarray
    missed: np.ndarray
    false_alarm: np.ndarray

    def name(self, entry: int) -> str | None:
        """The verdict on one of the entries (C,); None if it is ignored, or negative and not
        predicted."""
        names = (CORRECT, MISSED, FALSE_ALARM)
        return next((name for name, marks in zip(names, self, strict=True) if marks[entry]), None)


class Pair(NamedTuple):
    """Two labels that are mistaken in the same images: in how many, and in how many they would
    be if the mistakes had nothing to do with each other."""

    first: int
    second: int
    images: int
    expected: float


class Entry(NamedTuple):
    """One image and one label, with the score."""

    row: int
    column: int
    score: float


def verdicts(
    scores: np.ndarray,
    targets: np.ndarray,
    ignore: np.ndarray | None,
    threshold: float | np.ndarray,
) -> Verdicts:
    """Compare predictions, `score >= threshold` (one, or (C,)), with targets (N, C) or (C,)."""
    kept = np.ones(scores.shape, bool) if ignore is None else np.asarray(ignore) != 1
    predicted, positive = scores >= threshold, np.asarray(targets) == 1
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


def worst_false_alarms(scores: np.ndarray, false_alarm: np.ndarray) -> Iterator[Entry]:
    """False alarms, the highest score first, each image once; ties in file and label order."""
    return _once_an_image(np.where(false_alarm, -scores, np.inf), scores)


def worst_missed(scores: np.ndarray, missed: np.ndarray) -> Iterator[Entry]:
    """Missed positives, the lowest score first, each image once; ties in file and label order."""
    return _once_an_image(np.where(missed, scores, np.inf), scores)


def _once_an_image(badness: np.ndarray, scores: np.ndarray) -> Iterator[Entry]:
    """Each image's entry of least `badness` (N, C), the least first; infinite ones are no entry."""
    columns = badness.argmin(axis=1)
    least = badness[np.arange(len(badness)), columns]
    for row in np.argsort(least, kind="stable"):
        if np.isinf(least[row]):
            return
        yield Entry(int(row), int(columns[row]), float(scores[row, columns[row]]))
