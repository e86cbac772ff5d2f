"""A table with a row an image and a column a label, of 0 and 1."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lib.common.errors import UserError
from lib.data.sources.annotations import (
    ReadOptions,
    Row,
    image_of,
    image_paths,
    note_unused,
    without_repeats,
)
from lib.data.sources.cells import mark
from lib.data.sources.tables.table import (
    Table,
    cells_of,
    is_table,
    open_table,
)

UNLABELED = "unlabeled"  # Roboflow's column for images without a label
INDEX = "unnamed: 0"  # pandas' column of row numbers
NEARLY = 0.9  # fraction of marks from which a column is one of labels, with mistakes in it
Record = tuple[str, dict[str, str]]
Mark = bool | None | str  # of `cells.mark`


def is_multi_hot_table(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is a table without a column of labels, or label columns are given."""
    if not is_table(source) or options.labels_column:
        return False
    if options.label_columns:
        return True
    return open_table(source, options).labels is None


def read_multi_hot_table(file: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """Rows of a table; the columns of labels are those that hold marks only, or those given."""
    table = open_table(file, options)
    records = list(table.records())
    marks = _label_columns(table, records, options)
    names = {column: table.name(column) for column in marks}
    how = table._replace(labels=None)
    others = how.unread(options, marks)
    notes.append(f"{how.note(others)}; a label each: {', '.join(names.values())}")
    if same := [names[column] for column in marks if len({*marks[column]}) == 1 < len(records)]:
        notes.append(f"the same in every row: {', '.join(same)}; --not-labels leaves columns out")
    everything = {record[column].strip() for _, record in records for column in marks}
    if everything == {"1", "-1"}:  # CelebA
        notes.append("-1 and 1, and neither 0 nor a blank: -1 is read as no")
        marks = {column: [one or False for one in marks[column]] for column in marks}
    folders = (Path(), file.parent)
    rows = []
    for number, (position, record) in enumerate(records):
        labels = []
        for column in marks:
            value = marks[column][number]
            if value is True:
                labels.append(names[column])
            elif value is None or (value == "" and options.blank_unknown):
                labels.append(f"?{names[column]}")
        if not record[table.path].strip():
            raise UserError(f"{position}: no path")
        paths = image_paths(record[table.path], options, folders)
        image = image_of(paths, labels, position, group=cells_of(record, options.group))
        rows.append(Row(image, table.split_of(record, position), position))
    note_unused(names.values(), rows, notes)
    return iter(without_repeats(rows, notes))


def _label_columns(
    table: Table, records: Sequence[Record], options: ReadOptions
) -> dict[str, list[Mark]]:
    """The columns of labels with the mark of each record, in order: those given, or those that hold
    marks and no other text."""
    for name in (*options.label_columns, *options.not_labels):
        if name.strip().lower() not in table.columns:
            raise UserError(f"{table.file}:1: no column {name!r}, but {', '.join(table.columns)}")
    if options.label_columns:
        given = [name.strip().lower() for name in options.label_columns]
        return {name: [_mark(record[name], name, at) for at, record in records] for name in given}
    without = (UNLABELED, INDEX, *(name.strip().lower() for name in options.not_labels))
    candidates = table.unread(options, without)
    found = {name: marks for name in candidates if (marks := _marks_of(name, records))}
    if not found:
        raise UserError(
            f"{table.file}: has no column of labels, and none of 0 and 1 (read as a table with a "
            "column a label); --labels-column or --label-columns name them"
        )
    if len(found) == 1:
        only = next(iter(found))
        raise UserError(
            f"{table.file}: has no column of labels, and one column of 0 and 1 ({only!r}), too "
            f"little for a column a label; --labels-column names the column of labels, or "
            f"--label-columns {only} says that it is one label"
        )
    return found


def _marks_of(column: str, records: Sequence[Record]) -> list[Mark] | None:
    """The marks of a column of labels; None for one of blanks, and for one of other texts.

    Raises `UserError` for a few other texts among many marks.
    """
    found: list[Mark] = []
    wrong = []
    for position, record in records:
        try:
            found.append(mark(record[column]))
        except ValueError:
            wrong.append((position, record[column]))
    number = sum(one != "" for one in found)
    if not wrong:
        return found if number else None
    if number < NEARLY * (number + len(wrong)):
        return None
    position, text = wrong[0]
    raise UserError(
        f"{position}: column {column!r}: {text!r} is neither 0 nor 1, as {number} others are; "
        f"correct it, or leave the column out: --not-labels {column!r}"
    )


def _mark(text: str, column: str, position: str) -> Mark:
    try:
        return mark(text)
    except ValueError:
        raise UserError(
            f"{position}: column {column!r}: {text!r}: expected 0 or 1 (-1 or u: unknown)"
        ) from None
