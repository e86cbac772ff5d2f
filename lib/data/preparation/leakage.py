"""Images that are in two lists of a data folder, or twice in one, by their paths alone."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.common.readers import numbered_lines

SEE = ": inspect_data.py lists them"


def repeated_paths(folder: Path) -> Iterator[str]:
    """A line for each two lists that have images in common, and for each list that repeats some.

    A path is kept as a hash of 8 bytes, since lists may have millions.
    """
    files = [folder / f"{name}.txt" for name in ("train", "val", "test")]
    keys = {file.name: _keys(file) for file in files if file.exists()}
    for (one, first), (other, second) in itertools.combinations(keys.items(), 2):
        if common := len(np.intersect1d(first, second)):
            yield f"{folder}: {common} images of {one} are in {other} too (leakage){SEE}"
    for name, found in keys.items():
        if repeated := len(found) - len(np.unique(found)):
            yield f"{folder / name}: {repeated} lines repeat the image of another{SEE}"


def _keys(file: Path) -> np.ndarray:
    """A hash of the path of each line -> int64 (N,)."""
    paths = (line.partition("\t")[0].strip() for _, line in numbered_lines(file))
    return np.fromiter((hash(os.path.normpath(path)) for path in paths if path), np.int64)
