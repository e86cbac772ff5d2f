"""A table with a row an image, all its labels in one cell, or with a row a label."""

from pathlib import Path

from lib.common.console import print_line
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, joined
from lib.data.sources.cells import BRACKETS, SEPARATORS, split_labels
from lib.data.sources.tables.table import open_table


def read_image_table(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of a table. Rows of the same image with one label each are joined."""
    table = open_table(file, options)
    assert table.labels
    print_line(table.note(table.unread()))
    images, cells = [], []
    for image, record in table.rows():
        cells.append(record[table.labels])
        image.add_names(split_labels(cells[-1], options.separator))
        images.append(image)
    cells = [cell for cell in cells if cell[:1] not in BRACKETS]
    seen = [repr(one) for one in SEPARATORS if any(one in cell for cell in cells)]
    if options.separator is None and seen:
        print_line(f"{file}: labels in a cell separated by {' and '.join(seen)}")
    if any(len(one.labels) + len(one.unknown) > 1 for one in images):
        return images
    merged = joined(images)
    if len(merged) < len(images):
        print_line(f"{file}: a row a label: {len(images)} rows of {len(merged)} images were joined")
    return merged
