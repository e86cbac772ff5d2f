"""Reads the lists of a data folder line by line, and checks labels and paths.

Shapes: N images, C labels.
"""

import difflib
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, vstack

from lib.common.console import progress_bar
from lib.common.errors import UserError
from lib.common.readers import numbered_lines, read_array
from lib.common.text import fits_xml
from lib.data.split import CHUNK, Paths, Split, offsets_array, sparse_marks

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


def read_split(file: Path, labels: Sequence[str], ignore: Path | None = None) -> Split:
    """Read lines of path, TAB, labels joined by commas; `?label` is unknown. `ignore` is an array
    (N, C) of 0 and 1 that marks more entries as unknown. Raises `UserError` with file and line.
    """
    column = {label: index for index, label in enumerate(labels)}
    block, offsets = bytearray(), array("q", [0])
    positive, unknown = _Marks(), _Marks()
    for number, line in progress_bar(numbered_lines(file), f"read {file.name}", "line", delay=2):
        path, _, names = line.partition("\t")
        path = path.strip()
        try:
            found = list(map(column.__getitem__, names.split(",")))
        except KeyError:  # no labels, an unknown one, spaces, or something wrong
            found = []
        if path and found and len(set(found)) == len(found):
            positive.columns.extend(found)
        elif line.strip():
            _read_line(line, f"{file}:{number}", column, positive, unknown)
        else:
            continue
        block += path.encode()
        offsets.append(len(block))
        positive.end_row()
        unknown.end_row()
    if not block:
        raise UserError(f"{file}: no images; {SPLIT_LINE}")
    paths = Paths(np.frombuffer(block, np.uint8), offsets_array(offsets))
    shape = len(paths), len(labels)
    ignored = unknown.array(shape)
    if ignore:
        ignored = ignored.maximum(_read_ignore(ignore, shape, file))
    return Split(file.stem, paths, positive.array(shape), ignored, np.zeros(len(paths), bool))


class _Marks:
    """The columns that each row marks, as they are read."""

    def __init__(self) -> None:
        self.columns, self.ends = array("i"), array("q", [0])

    def end_row(self) -> None:
        self.ends.append(len(self.columns))

    def array(self, shape: tuple[int, int]) -> csr_array:
        marks = sparse_marks(np.array(self.ends), np.array(self.columns), shape)
        marks.sort_indices()
        return marks


def _read_line(
    line: str, position: str, column: Mapping[str, int], positive: _Marks, unknown: _Marks
) -> None:
    """Add the labels of a line. Raises `UserError`, naming `position`, for what is no line."""
    path, tab, names = line.partition("\t")
    if not tab or "\t" in names or not path.strip():
        raise UserError(
            f"{position}: expected 'path<TAB>label,label,...' (the TAB also where an image has no "
            "labels)"
        )
    seen = set()
    for name in names.split(",") if names.strip() else ():
        label, marks = name.strip(), positive
        if label.startswith(UNKNOWN):
            label, marks = label[1:], unknown
        if label not in column:
            close = difflib.get_close_matches(label, column, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            known = Path(position).with_name("label.txt")
            raise UserError(f"{position}: label {label!r} is not in {known}{hint}")
        if label in seen:
            raise UserError(f"{position}: duplicate label {label!r}")
        seen.add(label)
        marks.columns.append(column[label])


def _read_ignore(file: Path, shape: tuple[int, int], listed: Path) -> csr_array:
    """The entries that `ignore.npy` marks, of the images of the list `listed`."""
    marked = read_array(file)
    if marked.shape != shape:
        raise UserError(
            f"{file}: has shape {marked.shape}, expected {shape}: one row per line of {listed}, "
            "one column per label"
        )
    rows = []
    for start in range(0, shape[0], CHUNK):
        part = marked[start : start + CHUNK]
        if part.dtype.kind not in "biuf" or not np.isin(part, (0, 1)).all():
            raise UserError(f"{file}: holds other values than 0 and 1")
        rows.append(csr_array(part.astype(np.uint8)))
    return vstack(rows, format="csr")


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
