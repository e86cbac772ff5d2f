"""A table with a row an image and a column a label, of 0 and 1."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, print_unused, shortened
from lib.data.sources.cells import Mark, are_signs, finite, mark
from lib.data.sources.tables.table import Row, Table, open_table, read_rows

UNLABELED = "unlabeled"  # Roboflow's column for images without a label
INDEX = "unnamed: 0"  # pandas' column of row numbers
NEARLY = 0.9  # fraction of marks from which a column is one of labels, with mistakes in it
FLAG = re.compile(r"(is|has|was)_.*")
# columns that are hardly labels, even if they hold 0 and 1 alone
NO_LABEL = re.compile(
    r"(.*_)?(id|ids|idx|index|uid|uuid|date|datetime|time|timestamp|year|month|day|age|sex|gender|"
    r"ratings?|stars|score|votes|rank|fold|seed|confidence|prob|probability|width|height|deleted|"
    r"verified|reviewed|approved|checked|flagged|duplicate|crowd|created|updated|modified)"
    r"(_at|_on|_by)?"
)


def read_multi_hot_table(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of a table; the columns of labels are those that hold marks only, or those
    given."""
    table, rows = read_rows(open_table(file, options)._replace(labels=None))
    marks = _label_columns(table, rows)
    names = {column: table.name(column) for column in marks}
    print_line(f"{table.note(table.unread(marks))}; a label each: {', '.join(names.values())}")
    if same := [names[column] for column in marks if len({*marks[column]}) == 1 < len(rows)]:
        print_line(
            f"{file}: the same in every row: {', '.join(same)}; --not-labels leaves columns out"
        )
    if are_signs(record[column] for _, record in rows for column in marks):
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
    marks and no other text.

    Raises `UserError` for columns of marks whose names are none of labels, without --allow columns.
    """
    given, others = (
        [name.strip().lower() for name in names]
        for names in (table.options.label_columns, table.options.not_labels)
    )
    candidates = given or table.unread((UNLABELED, INDEX, *others))
    read = {name: _marks(table, name, rows, bool(given)) for name in candidates}
    found = {name: marks for name, marks in read.items() if marks is not None}
    if strange := () if given or "columns" in table.options.allow else _no_labels(table, found):
        raise UserError(
            f"{table.file}:1: columns of 0 and 1 that are perhaps no labels: "
            f"{shortened(strange, 10)}: --not-labels {','.join(strange)} leaves them out, --allow "
            "columns takes them as labels"
        )
    if given or len(found) > 1:
        return found
    raise UserError(
        f"{table.file}: has no column of labels (read as a table with a column a label), and "
        f"{f'one column of 0 and 1 ({[*found][0]!r})' if found else 'none of 0 and 1'}; "
        "--labels-column names the one of labels, --label-columns those of 0 and 1, even one"
    )


def _no_labels(table: Table, columns: Iterable[str]) -> list[str]:
    """The columns whose names are none of labels; flags such as `is_dog` may all be labels."""
    names = [table.name(column) for column in columns]
    flags = [name for name in names if FLAG.fullmatch(_plain(name))]
    odd = flags if 2 * len(flags) < len(names) else []
    return [name for name in names if name in odd or NO_LABEL.fullmatch(_plain(name))]


def _plain(name: str) -> str:
    """A name in lower case, with `_` between its words: "is_deleted" for "isDeleted"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\s-]+", "_", name.strip()).lower()


def _marks(table: Table, column: str, rows: Sequence[Row], is_given: bool) -> list[Mark] | None:
    """The marks of a column; None for one of blanks, and for one of other texts, unless it is given
    as one of labels. With --min-confidence, numbers from it on are a yes.

    Raises `UserError` for other texts in a given column, for a few among many marks, and for
    fractions or counts, which may be labels.
    """
    least, found, wrong = table.options.min_confidence, [], []
    for image, record in rows:
        text = record[column]
        number = _number(text)
        try:
            found.append(mark(text))
        except KeyError:
            if least is not None and number is not None:
                found.append(number >= least)
            else:
                wrong.append((image.position, text, number))
    read = sum(one != "" for one in found)
    numbers = [number for _, _, number in wrong if number is not None]
    are_levels = (
        len(numbers) == len(wrong)
        and not NO_LABEL.fullmatch(_plain(table.name(column)))
        and (read >= len(wrong) or all(0 <= number <= 1 for number in numbers))
    )
    if wrong and (is_given or are_levels or read >= NEARLY * (read + len(wrong))):
        position, text, _ = wrong[0]
        sure = "; --min-confidence 0.5 reads numbers from 0.5 on as 1" if are_levels else ""
        raise UserError(
            f"{position}: column {column!r}: {text!r}: expected 0 or 1 (-1 or u: unknown), as "
            f"{read} others are; correct it, or leave the column out: --not-labels {column!r}"
            f"{sure}"
        )
    return found if is_given or (read and not wrong) else None


def _number(text: str) -> float | None:
    try:
        return finite(text)
    except ValueError:
        return None
