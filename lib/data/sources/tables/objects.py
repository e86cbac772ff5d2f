"""A table with a row an object: TensorFlow's and Roboflow's boxes, and Open Images."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, joined, least_confidence
from lib.data.sources.cells import finite, picture_size
from lib.data.sources.tables.table import OPEN_IMAGES, open_table, read_rows


def read_object_table(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of a table. An object without a box, or with an empty one, is a label only.

    Open Images: a Confidence of 0 is a known no; its boxes are in fractions of a side. Labels that
    are not verified, or of less than --min-confidence, are a no, or unknown with --blank unknown.
    """
    table = open_table(file, options)
    column = table.labels or "labelname"
    table = table._replace(labels=column)
    if column not in table.columns:
        raise UserError(
            f"{file}:1: has boxes (read as a table with a row an object), but no column of their "
            "labels (class, label); --labels-column names it"
        )
    is_open_images = set(table.columns) >= OPEN_IMAGES
    edges = table.edges
    table, rows = read_rows(table)
    print_line(table.note(table.unread(("confidence", "width", "height", *edges))))
    images, denied = [], defaultdict(set)
    sure = [_confidence(record, image.position) for image, record in rows]
    least = least_confidence(sure, file, options)
    for (image, record), confidence in zip(rows, sure, strict=True):
        position, image.has_fractions = image.position, is_open_images
        image.size = picture_size(record.get("width"), record.get("height"), position)
        label = record[column].strip()
        if label and confidence <= 0:
            denied[image.path].add(label)
        elif label and confidence >= least:
            image.add(label, _box(record, edges, position))
        images.append(image)
    merged = joined(images)
    contradictory = 0
    everything = {label for image in merged for label in image.labels}
    for image in merged:
        no = denied[image.path]
        image.unknown = sorted(no & {*image.labels})  # as several annotators leave it
        contradictory += bool(image.unknown)
        if is_open_images and options.blank == "unknown":
            image.unknown = sorted({*image.unknown} | everything - no - {*image.labels})
        image.labels = [label for label in image.labels if label not in no]
    if contradictory:
        print_line(
            f"{file}: {contradictory} images have a label with Confidence 0 and more: unknown"
        )
    if len(merged) < len(images):
        print_line(f"{file}: {len(images)} rows of {len(merged)} images were joined")
    return merged


def _confidence(record: Mapping[str, str], position: str) -> float:
    """The number in the column of that name, or 1."""
    text = record.get("confidence", "").strip()
    try:
        return finite(text) if text else 1
    except ValueError:
        raise UserError(f"{position}: Confidence {text!r}: expected a number, 0 to 1") from None


def _box(record: Mapping[str, str], columns: Sequence[str], position: str) -> list[float] | None:
    texts = [record[column].strip() for column in columns]
    if not any(texts):
        return None
    with contextlib.suppress(ValueError):
        x0, y0, x1, y1 = box = [finite(text) for text in texts]
        if x0 <= x1 and y0 <= y1:
            return box
    raise UserError(
        f"{position}: box {', '.join(texts)}: expected four numbers, {', '.join(columns)}, none of "
        "which ends before it begins"
    )
