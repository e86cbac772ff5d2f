"""Images that must stay in one split: of one patient or video, siblings of one picture, copies."""

import re
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.pictures import identical_files
from lib.data.sources.annotations import AnnotatedImage

# Roboflow's augmented versions of one picture: NAME_jpg.rf.HASH.jpg
SIBLING = re.compile(r"(.+)_[a-z]{3,4}\.rf\.\w+", re.IGNORECASE)


def group_by_pattern(images: Sequence[AnnotatedImage], pattern: str) -> None:
    """Set the group of each image by a regular expression, searched in its path, as found and as
    listed: its first group, or all that it matches.

    Raises `UserError` for a pattern that matches no image.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group {pattern}: no column, and not a pattern: {error}") from error
    for image in images:
        places = image.path, image.listed, image.listed.replace("/", "\\")
        if match := next(filter(None, map(expression.search, places)), None):
            image.group = match[1] if expression.groups else match[0]
    found = [image.group for image in images if image.group is not None]
    if not found:
        raise UserError(
            f"--group {pattern}: no column of this name, and no path in which it is found, for "
            f"example {images[0].path}"
        )
    print_line(
        f"--group {pattern}: {len(set(found))} groups of {len(found)} of {len(images)} images"
    )


def group_numbers(images: Sequence[AnnotatedImage]) -> np.ndarray:
    """The number of the group of each of N images -> int (N,).

    Images are in one group if they have the same `group`, are siblings by their names, or are
    identical files.
    """
    parent = list(range(len(images)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    first: dict[Hashable, int] = {}
    for row, image in enumerate(images):
        for kind, value in (("group", image.group), ("sibling", sibling_stem(image.path))):
            if value:
                parent[root(row)] = root(first.setdefault((kind, value), row))
    for rows in identical_files([image.path for image in images]):
        for row in rows:
            parent[root(row)] = root(rows[0])
    return np.unique([root(row) for row in range(len(images))], return_inverse=True)[1]


def sibling_stem(path: str) -> str | None:
    """The name of the picture of which this is an augmented version; None for another file."""
    match = SIBLING.fullmatch(Path(path).stem)
    return match[1] if match else None
