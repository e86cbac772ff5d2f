"""A table with a row an image, all its labels in one cell, or with a row a label."""

from pathlib import Path

from lib.common.console import print_line
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, joined, without_repeats
from lib.data.sources.cells import BRACKETS, SEPARATORS, split_labels
from lib.data.sources.tables.table import open_table


def read_image_table(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of a table. Rows of the same image with one label each are joined.

    With several labels a row that says the same again is left out; another one is an error of
    `scripts/custom.py`.
    """
    table = open_table(file, options)
    assert table.labels
    print_line(table.note(table.unread()))
    images, cells = [], []
    for position, record in table.records():
        cell = record[table.labels]
        images.append(table.image(position, record, split_labels(cell, options.separator)))
        cells += [cell] if cell[:1] not in BRACKETS else []
    seen = [one for one in SEPARATORS if any(one in cell for cell in cells)]
    if options.separator is None and seen:
        print_line(f"{file}: labels in a cell separated by {' and '.join(map(repr, seen))}")
    if any(len(one.labels) + len(one.unknown) > 1 for one in images):
        return without_repeats(images, file)
    merged = joined(images)
    if len(merged) < len(images):
        print_line(f"{file}: a row a label: {len(images)} rows of {len(merged)} images were joined")
    return merged
