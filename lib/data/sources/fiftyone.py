"""FiftyOne's export of classifications: `labels.json`, with the images in `data/` beside it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.sources.annotations import ReadOptions, Row, image_of, image_paths, note_unused
from lib.data.sources.json_files import keys_of


def is_fiftyone(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is a .json file with this form's keys."""
    return "labels" in (keys_of(source) or ())


def read_fiftyone(file: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """A row for each entry of `labels`: file name without ending -> one label or several, each a
    name, its number among `classes`, or `{"label": ...}`; null is no label."""
    content = decode_json(file, dict[str, Any])
    classes, entries = content.get("classes") or [], content["labels"]
    if not isinstance(entries, dict) or not isinstance(classes, list):
        raise UserError(
            f'{file}: expected {{"classes": [...], "labels": {{name: label, ...}}}} (read as an '
            "export of FiftyOne)"
        )
    rows = []
    for name, value in entries.items():
        position = f"{file}: labels[{name!r}]"
        values = value if isinstance(value, list) else [] if value is None else [value]
        labels = [_label(one, classes, position) for one in values]
        paths = image_paths(f"data/{name}", options, (file.parent,))
        if options.images:
            paths = [(options.images / name).as_posix(), *paths]
        rows.append(Row(image_of(paths, labels, position), None, position))
    note_unused((one for one in classes if isinstance(one, str)), rows, notes)
    return iter(rows)


def _label(value: Any, classes: list[Any], position: str) -> str:
    if isinstance(value, dict):
        value = value.get("label")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
        value = classes[value]
    if isinstance(value, str):
        return value
    raise UserError(
        f"{position}: {value!r:.80}: expected a label, or a number of one of {len(classes)} classes"
    )
