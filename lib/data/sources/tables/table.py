"""A .csv or .tsv file: its separator of columns, its header, and its records with line numbers.

Which of the forms of a table it is, its header decides: `images.py`, `multi_hot.py` and
`objects.py` each read one.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.data.pictures import IMAGE_ENDINGS
from lib.data.sources.annotations import LABEL_NAMES, PATH_NAMES, ReadOptions, split_name
from lib.data.sources.cells import mark

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
ENDINGS = (".csv", ".tsv")
VIA = {"region_shape_attributes", "region_attributes"}
SPLIT_COLUMNS = ("split", "subset", "set")
VALID_COLUMNS = ("is_valid", "valid", "is_val")
LONGEST_CELL = 10_000_000  # characters


class Table(NamedTuple):
    """A table's file, separator, and column names, in lower case and as they are `written`.

    `path` and `labels` are the columns of the image's file and of its labels; `labels` is None
    where no column has one of their usual names.
    """

    file: Path
    delimiter: str
    columns: Sequence[str]
    written: Sequence[str]
    path: str
    labels: str | None

    def records(self) -> Iterator[tuple[str, dict[str, str]]]:
        """The position of each row, `file:line`, where the line is its first, and its cells."""
        for line, cells in _rows(self.file, self.delimiter):
            if line == 1 or not "".join(cells).strip():  # spreadsheets leave empty rows
                continue
            if len(cells) != len(self.columns):
                raise UserError(
                    f"{self.file}:{line}: {len(self.columns)} fields expected; quote what has a "
                    f"{DELIMITERS[self.delimiter]} (found {len(cells)})"
                )
            yield f"{self.file}:{line}", dict(zip(self.columns, cells, strict=True))

    def name(self, column: str) -> str:
        """A column as the header has it."""
        return self.written[list(self.columns).index(column)]

    def unread(self, options: ReadOptions, used: Iterable[str] = ()) -> list[str]:
        """The columns that have a name, and no meaning beside `used`."""
        group = (options.group or "").strip().lower()
        known = {"", self.path, self.labels, group, *SPLIT_COLUMNS, *VALID_COLUMNS, *used}
        return [name for name in self.columns if name not in known]

    def split_of(self, record: dict[str, str], position: str) -> str | None:
        """The split that a record names, by `split`, or by a column `is_valid` of yes and no."""
        for column in SPLIT_COLUMNS:
            if column in record:
                return split_name(record[column], position)
        for column in VALID_COLUMNS:
            if text := record.get(column, "").strip():
                try:
                    return {True: "val", False: "train"}[mark(text)]  # type: ignore[index]
                except (ValueError, KeyError):
                    raise UserError(
                        f"{position}: {column} {text!r}: expected true or false"
                    ) from None
        return None

    def note(self, others: Sequence[str] = ()) -> str:
        """How the table was read, for the summary; `others` are columns that were left out."""
        parts = [
            f"columns separated by {DELIMITERS[self.delimiter]}",
            f"images: {self.name(self.path)!r}",
        ]
        if self.labels:
            parts.append(f"labels: {self.name(self.labels)!r}")
        if others:
            parts.append(f"left out: {', '.join(repr(self.name(one)) for one in others)}")
        return "; ".join(parts)


def is_table(source: Path) -> bool:
    """Whether `source` is a .csv or .tsv file."""
    return source.suffix.lower() in ENDINGS and source.is_file()


def open_table(file: Path, options: ReadOptions) -> Table:
    """Read the header of a table; the separator is the one by which it has columns that are known.

    Raises `UserError` for a header without a column of image files.
    """
    tabs = file.suffix.lower() == ".tsv"
    tables = [_table(file, one, options) for one in (["\t"] if tabs else DELIMITERS)]
    known = [table for table in tables if table.path]
    if not known:
        best = max(tables, key=lambda table: len(table.columns))
        wanted = f"a column {options.path_column!r} (--path-column)"
        if options.path_column is None:
            wanted = f"a column of image files ({', '.join(PATH_NAMES[:6])}, ...)"
        remedy = "" if options.path_column else "; --path-column names it"
        if any(Path(cell).suffix.lower() in IMAGE_ENDINGS for cell in best.columns):
            raise UserError(
                f"{file}:1: has no header, but {','.join(best.written)}: add a first line such as "
                "path,labels"
            )
        found = ",".join(best.columns) or "an empty file"
        raise UserError(f"{file}:1: expected a header with {wanted}, found {found}{remedy}")
    if VIA <= set(known[0].columns):
        raise UserError(f"{file}: a table of the VGG Image Annotator: export it as COCO instead")
    table = max(known, key=lambda table: (table.labels is not None, len(table.columns)))
    repeated = [name for name in table.columns if name and table.columns.count(name) > 1]
    if repeated:
        raise UserError(
            f"{file}:1: expected a header of different names: {repeated[0]!r} is a duplicate"
        )
    if options.labels_column and not table.labels:
        raise UserError(
            f"{file}:1: no column {options.labels_column!r} (--labels-column), but "
            f"{', '.join(table.columns)}"
        )
    return table


def cells_of(record: dict[str, str], name: str | None) -> str | None:
    """The cell of a column, in any case; None where there is no such column."""
    return record.get(name.strip().lower()) if name else None


def _table(file: Path, delimiter: str, options: ReadOptions) -> Table:
    _, header = next(_rows(file, delimiter), (1, []))
    written = [name.strip() for name in header]
    columns = [name.lower() for name in written]
    path = _first(options.path_column, PATH_NAMES, columns)
    labels = _first(options.labels_column, LABEL_NAMES, columns)
    return Table(file, delimiter, columns, written, path or "", labels)


def _first(given: str | None, usual: Sequence[str], columns: Sequence[str]) -> str | None:
    names = [given.strip().lower()] if given is not None else usual
    return next((name for name in names if name in columns), None)


def _rows(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line of each row, and its cells."""
    csv.field_size_limit(LONGEST_CELL)
    lines = (line + "\n" for _, line in numbered_lines(file))
    reader = csv.reader(lines, strict=True, delimiter=delimiter, skipinitialspace=True)
    first = 1
    try:
        for cells in reader:
            yield first, cells
            first = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{file}:{first}: not CSV: {error}") from error
