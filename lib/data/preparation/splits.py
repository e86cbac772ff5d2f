"""Splits that are stratified by label, so that each label's positives are shared out alike.

Shapes: N images, C labels, G groups of images that stay together.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import sparse

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.preparation.groups import group_numbers
from lib.data.sources.annotations import AnnotatedImage

MAX_SWAPS = 200


def indicators(rows: Iterable[Iterable[str]], labels: Sequence[str]) -> np.ndarray:
    """Label names of N images -> (N, C) uint8 of 0 and 1."""
    column = {label: index for index, label in enumerate(labels)}
    columns = [[column[label] for label in row] for row in rows]
    array = np.zeros((len(columns), len(labels)), np.uint8)
    for marks, present in zip(array, columns, strict=True):
        marks[present] = 1
    return array


def stratified_choice(
    targets: np.ndarray, fraction: float, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Choose `fraction` of N rows, to one row or one group, and about as much of each label's
    positives -> bool (N,). Rows with the same number in `groups` (N,) stay together.

    Iterative stratification (Sechidis et al. 2011) with two parts: the rarest label first, each
    takes what it still needs from the groups that no rarer label has placed. Then groups are added
    or removed until the number of rows is right, those first by which the labels' counts come
    closest to what they should be; and groups of the same size are swapped for the same end.
    """
    if groups is None:
        groups = np.arange(len(targets))
    sizes = np.bincount(groups)
    member = sparse.csr_array(
        (np.ones(len(groups), np.int64), (groups, np.arange(len(groups)))),
        shape=(len(sizes), len(groups)),
    )
    counts = sparse.csc_array(member @ sparse.csr_array(targets.astype(np.int64)))  # (G, C)
    chosen = _by_label(counts, fraction, np.random.default_rng(seed))
    _correct_total(chosen, counts, sizes, fraction, np.random.default_rng((seed, 1)))
    _swap(chosen, counts, sizes, fraction)
    return chosen[groups]


def _by_label(counts: sparse.csc_array, fraction: float, random: np.random.Generator) -> np.ndarray:
    """The groups that labels choose, the rarest label first -> bool (G,)."""
    chosen, placed = np.zeros((2, counts.shape[0]), bool)
    totals = counts.sum(axis=0)
    for column in np.argsort(totals, kind="stable"):
        part = slice(counts.indptr[column], counts.indptr[column + 1])
        positive, number = counts.indices[part], counts.data[part]
        wanted = round(fraction * totals[column]) - number[chosen[positive]].sum()
        order = random.permutation(len(positive))
        free = order[~placed[positive[order]]]
        # each while it brings the label closer to what it wants
        before = np.cumsum(number[free]) - number[free]
        chosen[positive[free[2 * (wanted - before) >= number[free] + (number[free] > 1)]]] = True
        placed[positive[free]] = True
    return chosen


def _correct_total(
    chosen: np.ndarray,
    counts: sparse.csc_array,
    sizes: np.ndarray,
    fraction: float,
    random: np.random.Generator,
) -> None:
    """Add groups to `chosen`, or remove some, until they have `fraction` of all rows.

    Those come first that bring the labels' counts closest to `fraction` of all, by the sum of
    squared differences. Several move at once while many are to move.
    """
    rows = counts.tocsr()
    squares = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
    wanted = fraction * rows.sum(axis=0)
    goal = round(fraction * sizes.sum())
    shuffled = random.permutation(len(sizes))
    while True:
        missing = goal - int(sizes[chosen].sum())
        sign = 1 if missing > 0 else -1
        # a group may overshoot by less than it corrects
        able = shuffled[(chosen[shuffled] != (sign > 0)) & (sizes[shuffled] < 2 * abs(missing))]
        if not missing or not len(able):
            return
        difference = rows[chosen].sum(axis=0) - wanted
        cost = (2 * sign * (rows @ difference) + squares)[able] / sizes[able]
        best = able[np.argsort(cost, kind="stable")]
        room = np.cumsum(sizes[best]) <= max(abs(missing) / 10, sizes[best[0]])
        chosen[best[room]] = sign > 0


def _swap(chosen: np.ndarray, counts: sparse.csc_array, sizes: np.ndarray, fraction: float) -> None:
    """Swap chosen groups for others of the same size while that brings the labels' counts closer
    to `fraction` of all, by the sum of squared differences."""
    rows = counts.tocsr()
    squares = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
    difference = rows[chosen].sum(axis=0) - fraction * rows.sum(axis=0)
    for _ in range(MAX_SWAPS):
        out = np.where(chosen, squares - 2 * (rows @ difference), np.inf)
        leaves = int(np.argmin(out))
        without = difference - rows[[leaves]].toarray()[0]
        able = ~chosen & (sizes == sizes[leaves])
        into = np.where(able, squares + 2 * (rows @ without), np.inf)
        joins = int(np.argmin(into))
        if not chosen[leaves] or not out[leaves] + into[joins] < 0:
            return
        chosen[leaves], chosen[joins] = False, True
        difference = without + rows[[joins]].toarray()[0]


def split_off(
    samples: Sequence[AnnotatedImage],
    labels: Sequence[str],
    fraction: float,
    seed: int,
    flag: str,
    grouped: bool = False,
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Split `samples` into the rest and a `fraction`, which is the same for every label.

    Images of a group stay together, if `grouped`. Raises `UserError`, naming `flag`, if either
    would be empty.
    """
    targets = indicators((sample.labels for sample in samples), labels)
    groups = group_numbers(samples) if grouped else np.arange(len(samples))
    chosen = stratified_choice(targets, fraction, seed, groups)
    if not chosen.any() or chosen.all():
        number = len(np.unique(groups))
        grouping = f" in {number} groups" if number < len(samples) else ""
        raise UserError(
            f"{flag} {fraction:g}: leaves one part of {len(samples)} images{grouping} empty"
        )
    if len(np.unique(groups)) < len(samples):
        print_line(f"{flag}: {len(samples)} images in {len(np.unique(groups))} groups, with copies")
    if abs(chosen.sum() - fraction * len(samples)) > 1:
        print_line(
            f"{flag} {fraction:g}: {chosen.sum()} of {len(samples)} images, since groups stay "
            f"together (the largest has {np.max(np.bincount(groups))})"
        )
    rest = [sample for sample, away in zip(samples, chosen, strict=True) if not away]
    return rest, [sample for sample, away in zip(samples, chosen, strict=True) if away]
