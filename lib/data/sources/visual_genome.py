"""Names for the 500 labels of Visual Genome, which are published as numbers only.

Each label takes the object name that was given to the most similar set of images. Shapes: N images,
C labels, K names.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse


class Name(NamedTuple):
    """A label's name, the object name it is made of, and how well the two image sets overlap."""

    label: str
    object_name: str
    overlap: float


def indicator_matrix(rows: Sequence[Iterable[int]], width: int) -> sparse.csr_array:
    """Column numbers of N rows -> (N, width) of 0 and 1."""
    columns = [sorted(set(row)) for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in columns], dtype=np.int64)])
    flat = np.fromiter((column for row in columns for column in row), np.int64, starts[-1])
    ones = np.ones(len(flat), np.int64)
    return sparse.csr_array((ones, flat, starts), shape=(len(rows), width))


def names_by_overlap(
    targets: sparse.csr_array, names: Sequence[str], named: sparse.csr_array
) -> list[Name]:
    """Name the C columns of `targets` (N, C) by the K `names`, sorted, of `named` (N, K).

    Both hold 0 and 1. A label takes the name of highest intersection over union, the first of
    equals; a name that an earlier label has gets ` (index)`. Gives a `Name` for each label.
    """
    in_label = np.asarray(targets.sum(axis=0)).ravel()
    in_name = np.asarray(named.sum(axis=0)).ravel()
    shared = (targets.T @ named).tocsr()
    found, taken = [], set()
    for column in range(targets.shape[1]):
        start, end = shared.indptr[column], shared.indptr[column + 1]
        overlap = np.zeros(len(names))
        candidates, both = shared.indices[start:end], shared.data[start:end]
        overlap[candidates] = both / (in_label[column] + in_name[candidates] - both)
        best = int(np.argmax(overlap))
        name = names[best]
        label = f"{name} ({column})" if name in taken else name
        taken.add(name)
        found.append(Name(label, name, float(overlap[best])))
    return found
