"""Splits that are stratified by label, so that each label's positives are shared out alike.

Shapes: N images, C labels, G groups of images that stay together.
"""

import itertools
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from scipy import sparse

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.preparation.groups import group_numbers
from lib.data.sources.annotations import AnnotatedImage

MAX_SWAPS = 200


def indicators(rows: Iterable[Iterable[Hashable]], labels: Sequence[Hashable]) -> sparse.csr_array:
    """The labels of N images, of which one may come twice -> (N, C) int64 of 0 and 1."""
    column = {label: index for index, label in enumerate(labels)}
    columns = [sorted({column[label] for label in row}) for row in rows]
    starts = np.cumsum([0, *map(len, columns)])
    flat = np.fromiter(itertools.chain(*columns), np.int64, starts[-1])
    ones = np.ones(len(flat), np.int64)
    return sparse.csr_array((ones, flat, starts), shape=(len(columns), len(labels)))


def stratified_choice(
    targets: np.ndarray | sparse.csr_array,
    fraction: float,
    seed: int,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Choose `fraction` of N rows, to one row or one group, and about as much of each label's
    positives in `targets` (N, C) -> bool (N,). Rows of the same number in `groups` (N,) stay
    together.

    Iterative stratification (Sechidis et al. 2011) with two parts: the rarest label first, each
    takes what it still needs from the groups that no rarer label has placed. Then groups are added
    or removed until the number of rows is right, those first by which the labels' counts come
    closest to what they should be; and groups of the same size are swapped for the same end.
    """
    if groups is None:
        groups = np.arange(targets.shape[0])
    sizes = np.bincount(groups)
    member = sparse.csr_array(
        (np.ones(len(groups), np.int64), (groups, np.arange(len(groups)))),
        shape=(len(sizes), len(groups)),
    )
    counts = sparse.csc_array(member @ sparse.csr_array(targets.astype(np.int64)))  # (G, C)
    chosen = _by_label(counts, fraction, np.random.default_rng(seed))
    _improve(chosen, counts, sizes, fraction, np.random.default_rng((seed, 1)))
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


def _improve(
    chosen: np.ndarray,
    counts: sparse.csc_array,
    sizes: np.ndarray,
    fraction: float,
    random: np.random.Generator,
) -> None:
    """Add groups to `chosen`, or remove some, until they have `fraction` of all rows; then swap
    chosen groups for others of the same size, while that brings the labels closer.

    Those come first that bring the labels' counts closest to `fraction` of all, by the sum of
    squared differences. Several move at once while many are to move.
    """
    rows = counts.tocsr()
    squares = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
    wanted = fraction * rows.sum(axis=0)
    shuffled = random.permutation(len(sizes))
    while missing := round(fraction * sizes.sum()) - int(sizes[chosen].sum()):
        sign = 1 if missing > 0 else -1
        # a group may overshoot by less than it corrects
        able = shuffled[(chosen[shuffled] != (sign > 0)) & (sizes[shuffled] < 2 * abs(missing))]
        if not len(able):
            break
        difference = rows[chosen].sum(axis=0) - wanted
        cost = (2 * sign * (rows @ difference) + squares)[able] / sizes[able]
        best = able[np.argsort(cost, kind="stable")]
        room = np.cumsum(sizes[best]) <= max(abs(missing) / 10, sizes[best[0]])
        chosen[best[room]] = sign > 0
    difference = rows[chosen].sum(axis=0) - wanted
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
    images: Sequence[AnnotatedImage],
    labels: Sequence[str],
    fraction: float,
    seed: int,
    flag: str,
    grouped: bool,
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Split `images` into the rest and a `fraction`, which is the same for every label.

    Images of a group stay together, if `grouped`. Raises `UserError`, naming `flag`, if either
    would be empty.
    """
    targets = indicators((image.labels for image in images), labels)
    groups = group_numbers(images) if grouped else np.arange(len(images))
    sizes = np.bincount(groups)
    chosen = stratified_choice(targets, fraction, seed, groups)
    grouping = f" in {len(sizes)} groups" if len(sizes) < len(images) else ""
    if not chosen.any() or chosen.all():
        raise UserError(
            f"{flag} {fraction:g}: leaves one part of {len(images)} images{grouping} empty"
        )
    if grouping:
        print_line(f"{flag}: {len(images)} images{grouping}, with copies")
    if abs(chosen.sum() - fraction * len(images)) > 1:
        print_line(
            f"{flag} {fraction:g}: {chosen.sum()} of {len(images)} images, since groups stay "
            f"together (the largest has {sizes.max()})"
        )
    rest = [image for image, away in zip(images, chosen, strict=True) if not away]
    return rest, [image for image, away in zip(images, chosen, strict=True) if away]
