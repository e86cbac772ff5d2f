"""A table with a row an image and a column a label, of 0 and 1."""

from collections.abc import Sequence
from pathlib import Path

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, print_unused
from lib.data.sources.cells import Mark, mark
from lib.data.sources.tables.table import Table, open_table

UNLABELED = "unlabeled"  # Roboflow's column for images without a label
INDEX = "unnamed: 0"  # pandas' column of row numbers
NEARLY = 0.9  # fraction of marks from which a column is one of labels, with mistakes in it
Row = tuple[AnnotatedImage, dict[str, str]]


def read_multi_hot_table(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of a table; the columns of labels are those that hold marks only, or those
    given."""
    table = open_table(file, options)._replace(labels=None)
    rows = list(table.rows())
    marks = _label_columns(table, rows)
    names = {column: table.name(column) for column in marks}
    print_line(f"{table.note(table.unread(marks))}; a label each: {', '.join(names.values())}")
    if same := [names[column] for column in marks if len({*marks[column]}) == 1 < len(rows)]:
        print_line(
            f"{file}: the same in every row: {', '.join(same)}; --not-labels leaves columns out"
        )
    if {record[column].strip() for _, record in rows for column in marks} == {"1", "-1"}:
        print_line(f"{file}: -1 and 1, and neither 0 nor a blank: -1 is read as no")  # CelebA
        marks = {column: [one or False for one in marks[column]] for column in marks}
    unknown = (None, "") if options.blank == "unknown" else (None,)
    for row, (image, _) in enumerate(rows):
        image.labels = [names[column] for column in marks if marks[column][row] is True]
        image.unknown = [names[column] for column in marks if marks[column][row] in unknown]
    images = [image for image, _ in rows]
    print_unused(names.values(), images, file)
    return images


def _label_columns(table: Table, rows: Sequence[Row]) -> dict[str, list[Mark]]:
    """The columns of labels with the mark of each record, in order: those given, or those that hold
    marks and no other text."""
    given, others = (
        [name.strip().lower() for name in names]
        for names in (table.options.label_columns, table.options.not_labels)
    )
    candidates = given or table.unread((UNLABELED, INDEX, *others))
    read = {name: _marks(name, rows, bool(given)) for name in candidates}
    found = {name: marks for name, marks in read.items() if marks is not None}
    if given or len(found) > 1:
        return found
    raise UserError(
        f"{table.file}: has no column of labels (read as a table with a column a label), and "
        f"{f'one column of 0 and 1 ({[*found][0]!r})' if found else 'none of 0 and 1'}; "
        "--labels-column names the one of labels, --label-columns those of 0 and 1, even one"
    )


def _marks(column: str, rows: Sequence[Row], is_given: bool) -> list[Mark] | None:
    """The marks of a column; None for one of blanks, and for one of other texts, unless it is given
    as one of labels.

    Raises `UserError` for other texts in a given column, and for a few among many marks.
    """
    found: list[Mark] = []
    wrong = []
    for image, record in rows:
        try:
            found.append(mark(record[column]))
        except KeyError:
            wrong.append((image.position, record[column]))
    number = sum(one != "" for one in found)
    if wrong and (is_given or number >= NEARLY * (number + len(wrong))):
        position, text = wrong[0]
        raise UserError(
            f"{position}: column {column!r}: {text!r}: expected 0 or 1 (-1 or u: unknown), as "
            f"{number} others are; correct it, or leave the column out: --not-labels {column!r}"
        )
    return found if is_given or (number and not wrong) else None
