"""A table with a row an image, all its labels in one cell, or with a row a label."""

from collections.abc import Sequence
from pathlib import Path

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, joined
from lib.data.sources.cells import BRACKETS, SEPARATORS, split_labels
from lib.data.sources.tables.table import open_table, read_rows
from lib.data.sources.vectors import add_label_lists


def read_image_table(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of a table. Rows of the same image with one label each are joined."""
    table, rows = read_rows(open_table(file, options))
    assert table.labels
    print_line(table.note(table.unread()))
    cells = [record[table.labels] for _, record in rows]
    images = [image for image, _ in rows]
    plain = [cell for cell in cells if cell[:1] not in BRACKETS]
    seen = [one for one in SEPARATORS if any(one in cell for cell in plain)]
    comma_in_names = len(seen) > 1 and any(", " in cell for cell in plain)
    if comma_in_names and options.separator is None:
        _require_one_reading(images, cells, seen[-1])
    found = [split_labels(cell, options.separator, comma_in_names) for cell in cells]
    if options.separator is None and seen:
        print_line(f"{file}: labels in a cell separated by {' and '.join(map(repr, seen))}")
    add_label_lists(list(zip(images, found, strict=True)), file, options)
    if any(len(one.labels) + len(one.unknown) > 1 for one in images):
        return images
    merged = joined(images)
    if len(merged) < len(images):
        print_line(f"{file}: a row a label: {len(images)} rows of {len(merged)} images were joined")
    return merged


def _require_one_reading(
    images: Sequence[AnnotatedImage], cells: Sequence[str], separator: str
) -> None:
    """Raise `UserError` for a name with a comma and a space, of which a part is a label itself."""
    names = [split_labels(cell, comma_in_names=True) for cell in cells]
    labels = {name for found in names for name in found}
    for image, found in zip(images, names, strict=True):
        for name in found:
            if parts := [part for part in name.split(", ") if part != name and part in labels]:
                raise UserError(
                    f"{image.position}: {name!r}: one name, or several labels, of which "
                    f"{parts[0]!r} is one elsewhere? --separator {separator!r} reads one name; "
                    "for several, write one separator in all cells"
                )
