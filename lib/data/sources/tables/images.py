"""A table with a row an image, all its labels in one cell, or with a row a label."""

from collections.abc import Iterator
from pathlib import Path

from lib.data.sources.annotations import ReadOptions, Row, joined, text_row, without_repeats
from lib.data.sources.cells import BRACKETS, SEPARATORS
from lib.data.sources.tables.table import (
    cells_of,
    is_table,
    open_table,
)


def is_image_table(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is a table; those of other forms are asked before."""
    return is_table(source)


def read_image_table(file: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """Rows of a table; paths are relative to the working folder, or to the table's.

    Rows of the same image with one label each are joined. With several labels a row that says the
    same again is left out; another one is an error of `scripts/custom.py`.
    """
    table = open_table(file, options)
    assert table.labels
    notes.append(table.note(table.unread(options)))
    folders = (Path(), file.parent)
    rows = []
    records = list(table.records())
    for position, record in records:
        split, group = table.split_of(record, position), cells_of(record, options.group)
        path, labels = record[table.path], record[table.labels]
        rows.append(text_row(path, labels, split, options, folders, position, group))
    cells = [cell for _, record in records if (cell := record[table.labels])[:1] not in BRACKETS]
    seen = [one for one in SEPARATORS if any(one in cell for cell in cells)]
    if options.separator is None and seen:
        notes.append(f"labels in a cell separated by {' and '.join(map(repr, seen))}")
    single = all(sum(1 for _ in (*r.image.labels, *r.image.unknown)) <= 1 for r in rows)
    merged = joined(rows) if single else without_repeats(rows, notes)
    if single and len(merged) < len(rows):
        notes.append(f"a row a label: {len(rows)} rows of {len(merged)} images were joined")
    return iter(merged)
