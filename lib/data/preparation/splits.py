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

STARTS = 8  # choices among groups, of which the closest counts, if they are few enough
MAX_WORK = 2_000_000  # positives of groups over all starts
MAX_MOVES = 300
CANDIDATES = 200  # groups on each side that may move next
LEAST_GAIN = 1e-4  # of a move, relative to what is left to gain
RARE = 50  # images of a label, below which its share matters less


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
    or removed until the number of rows is right, and added, removed or swapped further, those first
    by which the labels' counts come closest to what they should be; of several such choices among
    groups, the closest.
    """
    if groups is None:
        groups = np.arange(targets.shape[0])
    sizes = np.bincount(groups)
    member = sparse.csr_array(
        (np.ones(len(groups), np.int64), (groups, np.arange(len(groups)))),
        shape=(len(sizes), len(groups)),
    )
    counts = sparse.csc_array(member @ sparse.csr_array(targets.astype(np.int64)))  # (G, C)
    starts = min(STARTS, MAX_WORK // max(counts.nnz, 1)) if len(sizes) < len(groups) else 1
    choices = []
    for start in range(max(1, starts)):
        chosen = _by_label(counts, fraction, np.random.default_rng((seed, start)))
        cost = _improve(chosen, counts, sizes, fraction, np.random.default_rng((seed, start, 1)))
        choices.append((cost, start, chosen))
    return min(choices)[2][groups]


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
) -> float:
    """Add groups to `chosen`, or remove some, until they have `fraction` of all rows; then add,
    remove or swap groups, while that brings the labels closer to `fraction` of their counts.

    Gives what is left: the sum of squared differences, each over the count of its label, or over
    `RARE` if that is more. Several groups move at once while many rows are to move; later moves
    keep the number of rows, to a hundredth.
    """
    scale = np.maximum(counts.sum(axis=0), RARE) ** -0.5
    rows = sparse.csr_array(counts.multiply(scale[None, :]))
    squares = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
    wanted, total = fraction * rows.sum(axis=0), fraction * sizes.sum()
    shuffled = random.permutation(len(sizes))
    while missing := round(total) - int(sizes[chosen].sum()):
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
    for _ in range(MAX_MOVES):
        excess = sizes[chosen].sum() - total
        change = squares + np.where(chosen, -2, 2) * (rows @ difference)
        out, into = (_lowest(change, np.flatnonzero(chosen == side)) for side in (True, False))
        # the row and the column after the last are for a group that moves alone
        costs = np.zeros((len(out) + 1, len(into) + 1))
        costs[:-1, :-1] = -2 * (rows[out] @ rows[into].T).toarray()
        costs += np.append(change[out], 0)[:, None] + np.append(change[into], 0)
        after = excess - np.append(sizes[out], 0)[:, None] + np.append(sizes[into], 0)
        costs[np.abs(after) > max(abs(excess), min(total / 100, sizes.max() / 2))] = np.inf
        leaves, joins = np.unravel_index(np.argmin(costs), costs.shape)
        if not costs[leaves, joins] < -LEAST_GAIN * (difference @ difference):
            break
        out, into = out[leaves : leaves + 1], into[joins : joins + 1]
        chosen[out], chosen[into] = False, True
        difference = difference + rows[into].sum(axis=0) - rows[out].sum(axis=0)
    return float(difference @ difference)


def _lowest(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The `CANDIDATES` of `rows` with the lowest values."""
    if len(rows) <= CANDIDATES:
        return rows
    return rows[np.argpartition(values[rows], CANDIDATES)[:CANDIDATES]]


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
        print_line(f"{flag}: {len(images)} images{grouping}, each of which stays in one split")
    if abs(chosen.sum() - fraction * len(images)) > 1:
        print_line(
            f"{flag} {fraction:g}: {chosen.sum()} of {len(images)} images, since groups stay "
            f"together (the largest has {sizes.max()})"
        )
    rest = [image for image, away in zip(images, chosen, strict=True) if not away]
    return rest, [image for image, away in zip(images, chosen, strict=True) if away]
