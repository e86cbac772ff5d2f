"""Splits a list of images in two, so that each label has its fraction in both parts.

Shapes: N images, C labels.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage


def indicators(rows: Iterable[Iterable[str]], labels: Sequence[str]) -> np.ndarray:
    """Label names of N images -> (N, C) uint8 of 0 and 1."""
    column = {label: index for index, label in enumerate(labels)}
    columns = [[column[label] for label in row] for row in rows]
    array = np.zeros((len(columns), len(labels)), np.uint8)
    for marks, present in zip(array, columns, strict=True):
        marks[present] = 1
    return array


def stratified_choice(targets: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose about `fraction` of N rows, and of each label's positives -> bool (N,).

    Iterative stratification (Sechidis et al. 2011) with two parts: the rarest label first, each
    takes what it still needs from the rows that no rarer label has placed; rows without labels
    fill up the rest.
    """
    random = np.random.default_rng(seed)
    chosen, placed = np.zeros(len(targets), bool), np.zeros(len(targets), bool)
    counts = targets.sum(axis=0, dtype=np.int64)
    for column in np.argsort(counts, kind="stable"):
        positive = targets[:, column] == 1
        free = random.permutation(np.flatnonzero(positive & ~placed))
        wanted = round(fraction * counts[column]) - np.count_nonzero(positive & chosen)
        chosen[free[: max(wanted, 0)]] = True
        placed[free] = True
    free = random.permutation(np.flatnonzero(~placed))
    wanted = round(fraction * len(targets)) - np.count_nonzero(chosen)
    chosen[free[: max(wanted, 0)]] = True
    return chosen


def split_off(
    samples: Sequence[AnnotatedImage], labels: Sequence[str], fraction: float, seed: int, flag: str
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Split `samples` into the rest and a `fraction`, which is the same for every label.

    Raises `UserError`, naming `flag`, if either would be empty.
    """
    targets = indicators((sample.labels for sample in samples), labels)
    chosen = stratified_choice(targets, fraction, seed)
    if not chosen.any() or chosen.all():
        raise UserError(f"{flag} {fraction:g}: leaves one part of {len(samples)} images empty")
    rest = [sample for sample, away in zip(samples, chosen, strict=True) if not away]
    return rest, [sample for sample, away in zip(samples, chosen, strict=True) if away]
