"""A table with a row an object: TensorFlow's and Roboflow's boxes, and Open Images."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.data.sources.annotations import (
    AnnotatedImage,
    ReadOptions,
    Row,
    image_paths,
    joined,
)
from lib.data.sources.cells import finite
from lib.data.sources.tables.table import Table, cells_of, is_table, open_table

EDGES = ("xmin", "ymin", "xmax", "ymax")
ALL_EDGES = (EDGES, ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2"))
OPEN_IMAGES = ("imageid", "labelname")


def is_object_table(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is a table with the four columns of a box, or those of Open Images."""
    if not is_table(source):
        return False
    table = open_table(source, options)
    return bool(_edges(table)) or set(OPEN_IMAGES) <= set(table.columns)


def read_object_table(file: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """A row for each image. An object without a box, or with an empty one, is a label only.

    Open Images: a Confidence of 0 is a known no; its boxes are in fractions of a side. Labels that
    are not verified are a no, or unknown with `blank_unknown`.
    """
    table = open_table(file, options)
    label_column = table.labels or "labelname"
    if label_column not in table.columns:
        raise UserError(
            f"{file}:1: has boxes (read as a table with a row an object), but no column of their "
            "labels (class, label); --labels-column names it"
        )
    table = table._replace(labels=label_column)
    is_open_images = set(OPEN_IMAGES) <= set(table.columns)
    edges = _edges(table)
    notes.append(table.note(table.unread(options, ("confidence", "width", "height", *edges))))
    folders = (Path(), file.parent)
    rows, denied = [], defaultdict(set)
    for position, record in table.records():
        if not record[table.path].strip():
            raise UserError(f"{position}: no path")
        paths = image_paths(record[table.path], options, folders)
        label = record[label_column].strip()
        if label and not _is_yes(record, position):
            denied[paths[0]].add(label)
            label = ""
        objects = _objects(record, label, edges, position) if label else []
        image = AnnotatedImage(
            paths[0],
            [label] if label else [],
            objects=objects,
            other_paths=paths[1:],
            size=_size(record, position),
            group=cells_of(record, options.group),
            has_fractions=is_open_images,
        )
        rows.append(Row(image, table.split_of(record, position), position))
    merged = joined(rows)
    both = [row.image for row in merged if denied[row.image.path] & {*row.image.labels}]
    for image in both:  # as several annotators leave it
        image.unknown = sorted(denied[image.path] & {*image.labels})
        image.labels = [label for label in image.labels if label not in image.unknown]
    if both:
        notes.append(f"{len(both)} images have a label with Confidence 0 and more: unknown")
    if is_open_images and options.blank_unknown:
        everything = {label for row in merged for label in row.image.labels}
        for row in merged:
            known = {*row.image.labels, *denied[row.image.path]} - {*row.image.unknown}
            row.image.unknown = sorted(everything - known)
    if len(merged) < len(rows):
        notes.append(f"{len(rows)} rows of {len(merged)} images were joined")
    return iter(merged)


def _is_yes(record: Mapping[str, str], position: str) -> bool:
    text = record.get("confidence", "").strip()
    try:
        return not text or finite(text) > 0
    except ValueError:
        raise UserError(f"{position}: Confidence {text!r}: expected a number, 0 to 1") from None


def _edges(table: Table) -> Sequence[str]:
    """The columns of a box's edges; none where there are none."""
    return next((names for names in ALL_EDGES if set(names) <= set(table.columns)), ())


def _objects(
    record: Mapping[str, str], label: str, columns: Sequence[str], position: str
) -> list[dict[str, Any]]:
    edges = [record[column].strip() for column in columns]
    if not any(edges):
        return []
    try:
        box = [finite(edge) for edge in edges]
    except ValueError:
        raise UserError(
            f"{position}: expected a box of four numbers, {', '.join(EDGES)}, found "
            f"{', '.join(edges)}"
        ) from None
    if box[0] > box[2] or box[1] > box[3]:
        raise UserError(
            f"{position}: xmin {edges[0]} to xmax {edges[2]}, ymin {edges[1]} to ymax "
            f"{edges[3]}: a box that ends before it begins"
        )
    return [{"label": label, "box": box, "difficult": False}]


def _size(record: Mapping[str, str], position: str) -> tuple[int, int] | None:
    texts = [record.get(name, "").strip() for name in ("width", "height")]
    if not all(texts):
        return None
    try:
        width, height = (int(finite(text)) for text in texts)
    except ValueError:
        raise UserError(
            f"{position}: width {texts[0]!r}, height {texts[1]!r}: expected pixels"
        ) from None
    return width, height
