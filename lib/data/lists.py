"""Reads the lists of a data folder line by line, and checks labels and paths.

Shapes: N images, C labels.
"""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.common.text import fits_xml

SPLIT_LINE = "write one 'path<TAB>label,label,...' line per image"
UNKNOWN = "?"
FORBIDDEN = "\t\n\r\0\ufeff"  # in a field of a line


def read_labels(folder: Path) -> list[str]:
    """Read `label.txt`: one label a line, unique, without comma, tab or a leading `?`."""
    file = folder / "label.txt"
    labels = [line.strip() for _, line in numbered_lines(file)]
    check_labels(labels, lambda row: f"{file}:{row + 1}")
    if not labels:
        raise UserError(f"{file}: no labels; write one label a line")
    return labels


def read_split(file: Path, labels: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read lines of path, TAB, labels joined by commas -> paths, targets (N, C), ignore (N, C).

    `?label` is unknown: marked in `ignore`. Raises `UserError` with file and line.
    """
    column = {label: index for index, label in enumerate(labels)}
    paths: list[str] = []
    positive: list[tuple[int, int]] = []
    unknown: list[tuple[int, int]] = []
    for number, line in numbered_lines(file):
        if not line.strip():
            continue
        path, tab, names = line.partition("\t")
        if not tab or "\t" in names or not path.strip():
            raise UserError(
                f"{file}:{number}: expected 'path<TAB>label,label,...' (the TAB also where an "
                "image has no labels)"
            )
        row, seen = len(paths), set()
        paths.append(path.strip())
        for name in names.split(",") if names.strip() else ():
            label = name.strip()
            marks = positive
            if label.startswith(UNKNOWN):
                label, marks = label[1:], unknown
            if label not in column:
                close = difflib.get_close_matches(label, labels, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                known = file.with_name("label.txt")
                raise UserError(f"{file}:{number}: label {label!r} is not in {known}{hint}")
            if label in seen:
                raise UserError(f"{file}:{number}: duplicate label {label!r}")
            seen.add(label)
            marks.append((row, column[label]))
    if not paths:
        raise UserError(f"{file}: no images; {SPLIT_LINE}")
    targets = np.zeros((len(paths), len(labels)), np.uint8)
    ignore = np.zeros((len(paths), len(labels)), bool)
    for array, marks in ((targets, positive), (ignore, unknown)):
        if marks:
            array[tuple(np.array(marks).T)] = 1
    return paths, targets, ignore


def check_labels(labels: Sequence[str], position: Callable[[int], str]) -> None:
    """Raise `UserError`, naming the `position` of its row, for a duplicate label, or one that a
    line cannot hold."""
    earlier = set()
    for row, label in enumerate(labels):
        check_label(label, position(row))
        if label in earlier:
            raise UserError(f"{position(row)}: duplicate label {label!r}")
        earlier.add(label)


def check_label(label: str, position: str) -> None:
    """Raise `UserError`, naming `position`, for a label that a line cannot hold."""
    if not label.strip():
        raise UserError(f"{position}: empty label")
    if not is_label(label):
        raise UserError(
            f"{position}: label {label!r}: no comma, tab, line end, control character, space "
            "around it or leading '?' allowed"
        )


def is_label(text: str) -> bool:
    """Whether a line, and a keyword in XMP, can hold `text` as a label."""
    return _fits(text, FORBIDDEN + ",") and fits_xml(text) and not text.startswith(UNKNOWN)


def check_path(path: str) -> None:
    """Raise `UserError` for a path that a line cannot hold."""
    if not _fits(path, FORBIDDEN):
        raise UserError(f"{path!r}: a path with a tab, a line end, or space around it; rename it")


def _fits(text: str, without: str) -> bool:
    """Whether `text` is UTF-8 and unchanged when it is read back from a stripped field."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text) and text == text.strip() and not set(text) & set(without)
