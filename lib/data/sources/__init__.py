"""A user's own annotations: one form a file, each read into rows of the same kind.

A form is two functions: whether a source is of this form, and its rows.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from lib.common.errors import UserError
from lib.data.sources.annotations import Row
from lib.data.sources.coco import is_coco, read_coco
from lib.data.sources.csv_table import is_csv, read_csv
from lib.data.sources.metadata_jsonl import is_metadata, read_metadata
from lib.data.sources.voc import is_voc, read_voc
from lib.data.sources.yolo import is_yolo, read_yolo


class Form(NamedTuple):
    """A form of annotations: its name in messages, its test, and its reader of (source, images)."""

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Path | None], Iterator[Row]]


# the first form that matches a source reads it
FORMS = (
    Form("a folder with metadata.jsonl", is_metadata, read_metadata),
    Form("a folder of VOC .xml files", is_voc, read_voc),
    Form("a .csv or .tsv file", is_csv, read_csv),
    Form("a COCO .json file", is_coco, read_coco),
    Form("a YOLO data.yaml, or its folder", is_yolo, read_yolo),
)


def read_source(source: Path, images: Path | None) -> list[Row]:
    """Read annotations of any form; `images` is the folder of the image files, if they are not
    beside them. Raises `UserError` for a source of no form, and for one without images."""
    form = next((form for form in FORMS if form.matches(source)), None)
    if form is None:
        problem = "not understood" if source.exists() else "no such file or folder"
        raise UserError(f"{source}: {problem}; expected {', '.join(form.name for form in FORMS)}")
    rows = list(form.read(source, images))
    if not rows:
        raise UserError(f"{source}: names no image")
    return rows
