"""A text file with a line an image: its path, then labels, or zeros and ones; mostly without a
header, as CelebA, Paddle and MXNet have them, and the lists of a data folder."""

import re
from collections.abc import Sequence
from pathlib import Path

from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.data.pictures import IMAGE_ENDINGS
from lib.data.sources.annotations import PATH_NAMES, AnnotatedImage, ReadOptions, image_at
from lib.data.sources.cells import split_labels
from lib.data.sources.tables.table import csv_rows
from lib.data.sources.vectors import add_label_lists

MARK = re.compile(r"-?[01](\.0*)?")
Line = tuple[int, list[str]]


def is_list(file: Path, is_text: bool) -> bool:
    """Whether the first line of a file is one of an image, so that it has no header; or, of a
    text file, that it is hardly the header of a table."""
    first = next((line for _, line in numbered_lines(file) if line.strip()), "")
    fields = [field.strip(' "').lower() for field in re.split(r"[,;\t|]", first)]
    if any(_is_path(field) for text in fields for field in text.split()):
        return True
    return is_text and not (len(fields) > 1 and {*fields} & {*PATH_NAMES})


def read_list(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of a list. A first line with a mere count is passed over, and then one with the
    names of the columns of zeros and ones, which --label-names has otherwise."""
    lines = [(number, line) for number, line in numbered_lines(file) if line.strip()]
    lines = lines[1:] if lines and lines[0][1].strip().isdigit() else lines
    rows = _rows(file, lines)
    names: Sequence[str] = ()
    if len(rows) > 1 and not _is_path(rows[0][1][0]):
        (_, first), (_, second) = rows[:2]
        marks = len(second) - 1
        if marks > 1 and all(map(MARK.fullmatch, second[1:])) and len(first) - marks in (0, 1):
            names = first[-marks:]
            rows = rows[1:]
        elif first[0].lower() in PATH_NAMES:
            rows = rows[1:]
    labelled = []
    for number, (path, *labels) in rows:
        position = f"{file}:{number}"
        image = image_at([path], options, (Path(), file.parent), position)
        if len(labels) == 1:
            labels = split_labels(labels[0], options.separator)
        labelled.append((image, labels))
    if not any(labels for _, labels in labelled):
        raise UserError(f"{file}: lists images without labels")
    add_label_lists(labelled, file, options, names)
    return [image for image, _ in labelled]


def _rows(file: Path, lines: Sequence[tuple[int, str]]) -> list[Line]:
    """The path and the labels of each line. Fields are separated by a tab in all lines, by a comma
    or semicolon behind all paths, or by white space."""
    last = [line for _, line in lines[1:]] or [line for _, line in lines]
    for delimiter in "\t,;":
        if all(delimiter in line for line in last) and (
            delimiter == "\t"
            or all(_is_path(line.split(delimiter)[0].strip('" ')) for line in last)
        ):
            kept = {number for number, _ in lines}
            cells = [(n, row) for n, row in csv_rows(file, delimiter) if n in kept]
            return [(n, _in_order([field.strip() for field in row])) for n, row in cells]
    return [(number, _in_order(_fields(line))) for number, line in lines]


def _fields(line: str) -> list[str]:
    """The fields of a line between white space, which a path with an ending may have too."""
    fields = line.split()
    ends = [row for row, field in enumerate(fields) if _is_path(field)]
    if not ends or ends[0] == len(fields) - 1 > 0:
        return fields
    return [" ".join(fields[: ends[0] + 1]), *fields[ends[0] + 1 :]]


def _in_order(fields: list[str]) -> list[str]:
    """The path first: MXNet has a number, then the labels, and the path last."""
    if len(fields) > 2 and fields[0].isdigit() and _is_path(fields[-1]):
        return [fields[-1], *fields[1:-1]]
    return fields


def _is_path(text: str) -> bool:
    return Path(text).suffix.lower() in IMAGE_ENDINGS
