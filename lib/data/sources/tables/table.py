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
from lib.data.sources.annotations import (
    LABEL_NAMES,
    PATH_NAMES,
    AnnotatedImage,
    ReadOptions,
    image_at,
)
from lib.data.sources.given_splits import set_splits

DELIMITERS = ",;\t|"
EDGES = [text.split() for text in ("xmin ymin xmax ymax", "x_min y_min x_max y_max", "x1 y1 x2 y2")]
OPEN_IMAGES = {"imageid", "labelname"}
LONGEST_CELL = 10_000_000  # characters
Row = tuple[AnnotatedImage, dict[str, str]]


class Table(NamedTuple):
    """A table's file, separator, and column names, in lower case and as they are `written`.

    `path` and `labels` are the columns of the image's file and of its labels; `labels` is None
    where no column has one of their usual names. `splits` are those that give splits, see
    `read_rows`.
    """

    file: Path
    options: ReadOptions
    delimiter: str
    columns: Sequence[str]
    written: Sequence[str]
    path: str
    labels: str | None
    splits: Sequence[str] = ()

    @property
    def kind(self) -> str:
        """What a row is: an object, an image with a column for each label, or one with all labels
        in one column."""
        if self.edges or set(self.columns) >= OPEN_IMAGES:
            return "table of objects"
        is_multi_hot = self.options.label_columns or self.labels is None
        return "table of marks" if is_multi_hot else "table of images"

    @property
    def edges(self) -> Sequence[str]:
        """The columns of a box's edges; none where there are none."""
        return next((names for names in EDGES if set(names) <= set(self.columns)), ())

    def rows(self) -> Iterator[tuple[AnnotatedImage, dict[str, str]]]:
        """The image of each row, with its group, and its cells. Its path is relative to the working
        folder, or to the table's; its position is `file:line`, its first line."""
        for line, cells in csv_rows(self.file, self.delimiter):
            position, record = f"{self.file}:{line}", dict(zip(self.columns, cells, strict=False))
            if line == 1 or not "".join(cells).strip():  # spreadsheets leave empty rows
                continue
            if len(cells) != len(self.columns):
                raise UserError(
                    f"{position}: {len(self.columns)} fields expected; quote what has a "
                    f"{self.delimiter!r} (found {len(cells)})"
                )
            folders = (Path(), self.file.parent)
            image = image_at([record[self.path]], self.options, folders, position)
            image.group = record.get(_lower(self.options.group)) if self.options.group else None
            yield image, record

    def name(self, column: str) -> str:
        """A column as the header has it."""
        return self.written[list(self.columns).index(column)]

    def unread(self, used: Iterable[str] = ()) -> list[str]:
        """The columns that have a name, and no meaning beside `used`."""
        known = {"", self.path, self.labels, _lower(self.options.group), *self.splits, *used}
        return [one for one in self.columns if one not in known]

    def note(self, others: Sequence[str]) -> str:
        """How the table was read, for the summary; `others` are columns that were left out."""
        parts = [f"columns separated by {self.delimiter!r}", f"images: {self.name(self.path)!r}"]
        parts += [f"labels: {self.name(self.labels)!r}"] if self.labels else []
        parts += [f"splits: {', '.join(map(repr, map(self.name, self.splits)))}"] * bool(
            self.splits
        )
        left_out = ", ".join(repr(self.name(one)) for one in others)
        parts += [f"left out: {left_out}"] if others else []
        return f"{self.file}: {'; '.join(parts)}"


def open_table(file: Path, options: ReadOptions) -> Table:
    """Read the header of a table; the separator is the one by which it has columns that are known.

    Raises `UserError` for a header without a column of image files.
    """
    delimiters = "\t" if file.suffix.lower() == ".tsv" else DELIMITERS
    tables = [_table(file, one, options) for one in delimiters]
    table = max(
        tables, key=lambda table: (table.path != "", table.labels is not None, len(table.columns))
    )
    columns = ",".join(table.written) or "an empty file"
    if not table.path:
        wanted = options.path_column or f"of image files ({', '.join(PATH_NAMES[:6])}, ...)"
        raise UserError(
            f"{file}:1: no column {wanted} in the header, {columns}: --path-column names it; a "
            "table without a header needs a first line such as path,labels"
        )
    if repeated := [one for one in table.columns if one and table.columns.count(one) > 1]:
        raise UserError(f"{file}:1: two columns {repeated[0]!r}: their names must differ")
    given = [*options.label_columns, *options.not_labels, options.labels_column or table.path]
    if missing := [name for name in given if _lower(name) not in table.columns]:
        raise UserError(f"{file}:1: no column {missing[0]!r}, but {columns}")
    return table


def read_rows(table: Table) -> tuple[Table, list[Row]]:
    """The rows of a table, each image with its split; and the table with the columns of splits."""
    rows = list(table.rows())
    chosen = map(_lower, (*table.options.label_columns, *table.options.not_labels))
    return table._replace(splits=set_splits(rows, table.unread(chosen))), rows


def csv_rows(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
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


def _table(file: Path, delimiter: str, options: ReadOptions) -> Table:
    _, header = next(csv_rows(file, delimiter), (1, []))
    written = [name.strip() for name in header]
    columns = [name.lower() for name in written]
    path = _first(options.path_column, PATH_NAMES, columns)
    labels = _first(options.labels_column, LABEL_NAMES, columns)
    return Table(file, options, delimiter, columns, written, path or "", labels)


def _first(given: str | None, usual: Sequence[str], columns: Sequence[str]) -> str | None:
    names = [_lower(given)] if given is not None else usual
    return next((name for name in names if name in columns), None)


def _lower(name: str | None) -> str:
    return (name or "").strip().lower()
