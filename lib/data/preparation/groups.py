"""Images that must stay in one split: of one patient or video, siblings of one picture, copies."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage

# Roboflow's augmented versions of one picture: NAME_jpg.rf.HASH.jpg
SIBLING = re.compile(r"(.+)_[a-z]{3,4}\.rf\.\w+", re.IGNORECASE)


def group_by_pattern(samples: Sequence[AnnotatedImage], pattern: str) -> list[str]:
    """Set the group of each sample by a regular expression, searched in its path, as found and as
    listed: its first group, or all that it matches.

    Gives a note; raises `UserError` for a pattern that matches no image.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group {pattern}: no column, and not a pattern: {error}") from error
    found = 0
    for sample in samples:
        places = sample.path, sample.listed, sample.listed.replace("/", "\\")
        if match := next(filter(None, map(expression.search, places)), None):
            sample.group = match[1] if expression.groups else match[0]
            found += 1
    if not found:
        raise UserError(
            f"--group {pattern}: no column of this name, and no path in which it is found, for "
            f"example {samples[0].path}"
        )
    groups = len({sample.group for sample in samples if sample.group})
    return [f"--group {pattern}: {groups} groups of {found} of {len(samples)} images"]


def group_numbers(samples: Sequence[AnnotatedImage]) -> np.ndarray:
    """The number of the group of each of N samples -> int (N,).

    Images are in one group if they have the same `group`, are siblings by their names, or are
    identical files.
    """
    parent = list(range(len(samples)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    first: dict[Hashable, int] = {}
    for row, sample in enumerate(samples):
        keys: list[Hashable] = [("group", sample.group)] if sample.group else []
        if stem := sibling_stem(sample.path):
            keys.append(("sibling", stem))
        for key in keys:
            parent[root(row)] = root(first.setdefault(key, row))
    for rows in identical_files([sample.path for sample in samples]):
        for row in rows:
            parent[root(row)] = root(rows[0])
    roots = [root(row) for row in range(len(samples))]
    return np.unique(roots, return_inverse=True)[1] if roots else np.zeros(0, np.int64)


def sibling_stem(path: str) -> str | None:
    """The name of the picture of which this is an augmented version; None for another file."""
    match = SIBLING.fullmatch(Path(path).stem)
    return match[1] if match else None


def identical_files(paths: Sequence[str]) -> Iterable[list[int]]:
    """The rows of files with the same bytes; only files of the same size are read."""
    sizes: dict[int, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        sizes[_size(path)].append(row)
    same: dict[bytes, list[int]] = defaultdict(list)
    for size, rows in sizes.items():
        for row in rows if len(rows) > 1 and size > 0 else ():
            same[_digest(paths[row])].append(row)
    return [rows for rows in same.values() if len(rows) > 1]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def _digest(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
