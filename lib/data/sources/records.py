"""A .jsonl file with a record for each image, as Hugging Face has it, or a .json list of them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.common.readers import decode_json, numbered_lines
from lib.data.sources.annotations import (
    LABEL_NAMES,
    PATH_NAMES,
    SPLIT_NAMES,
    ReadOptions,
    Row,
    text_row,
)
from lib.data.sources.cells import finite, texts
from lib.data.sources.json_files import is_json, keys_of

OBJECT_NAMES = (*LABEL_NAMES, "category_id", "name")


def is_records(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is a .jsonl file, or a .json file with a list."""
    lines = source.suffix.lower() in (".jsonl", ".ndjson") and source.is_file()
    return lines or (is_json(source) and keys_of(source) is None)


def read_records(file: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """Records of `{"file_name": ..., "labels": [...]}` (or one text), perhaps with "split", or with
    `"objects": {"bbox": [[x, y, width, height]], "categories": [...]}`.

    Files that lie in folders named train, val or test belong to these splits.
    """
    folders = (file.parent, Path())
    rows, labelled = [], 0
    for position, record in _records(file):
        path = _first(record, options.path_column, PATH_NAMES)
        if not isinstance(path, str):
            raise UserError(
                f'{position}: expected {{"file_name": ..., "labels": [...]}}, found the keys '
                f"{_keys(record)}; --path-column names the one of the image file"
            )
        labels = _first(record, options.labels_column, LABEL_NAMES)
        objects = _objects(record["objects"], position) if record.get("objects") else []
        labelled += labels is not None or "objects" in record
        listed = labels if isinstance(labels, str) else _texts(labels)
        if listed is None:
            raise UserError(f"{position}: labels must be text or a list of texts")
        group = _first(record, options.group, ()) if options.group else None
        group = None if group is None else str(group)
        row = text_row(path, listed, record.get("split"), options, folders, position, group)
        found = [label for label, _ in objects]
        row.image.labels = list(dict.fromkeys([*row.image.labels, *found]))
        row.image.objects = [
            {"label": label, "box": box, "difficult": False} for label, box in objects if box
        ]
        rows.append((row, path.replace("\\", "/").split("/")[0].lower()))
    if rows and not labelled:
        raise UserError(
            f"{position}: no labels; its keys are {_keys(record)}; --labels-column names the one "
            "of the labels"
        )
    if all(row.split is None and folder in SPLIT_NAMES for row, folder in rows):
        notes.append("split by the first folder of each file name")
        return iter([row._replace(split=SPLIT_NAMES[folder]) for row, folder in rows])
    return iter([row for row, _ in rows])


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    """Each record and its position."""
    if is_json(file):
        for number, record in enumerate(decode_json(file, list[Any])):
            yield f"{file}: [{number}]", record
        return
    for number, line in numbered_lines(file):
        if line.strip():
            try:
                yield f"{file}:{number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{file}:{number}: not JSON: {error}") from error


def _keys(record: Any) -> str:
    return ", ".join(map(str, list(record)[:12])) if isinstance(record, dict) else "of no object"


def _first(record: Any, given: str | None, usual: Sequence[str]) -> Any:
    """The value of the first of these keys that a record has."""
    if not isinstance(record, dict):
        return None
    lower = {str(key).strip().lower(): value for key, value in record.items()}
    names = [given.strip().lower()] if given is not None else usual
    return next((lower[name] for name in names if lower.get(name) is not None), None)


def _texts(labels: Any) -> list[str] | None:
    """A list of labels as texts; a number alone is one label, null is none."""
    if isinstance(labels, list):
        return texts(labels)
    return texts([labels]) if labels is not None else []


def _objects(value: Any, position: str) -> list[tuple[str, list[float] | None]]:
    """The labels and boxes of `{"bbox": [...], "categories": [...]}`, or of a list with an object
    for each."""
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        boxes = [one.get("bbox") for one in value]
        labels = texts([_first(one, None, OBJECT_NAMES) for one in value])
    else:
        value = value if isinstance(value, dict) else {}
        boxes, found = value.get("bbox", []), _first(value, None, OBJECT_NAMES) or []
        labels = texts(found) if isinstance(found, list) else None
    if labels is None or not isinstance(boxes, list) or len(boxes) not in (0, len(labels)):
        raise UserError(
            f'{position}: expected "objects": {{"bbox": [[x, y, width, height], ...], '
            '"categories": [...]} of equal lengths'
        )
    boxes = boxes or [None] * len(labels)
    return [
        (label.strip(), _corners(box, position) if box else None)
        for label, box in zip(labels, boxes, strict=True)
    ]


def _corners(box: Any, position: str) -> list[float]:
    try:
        x, y, width, height = (finite(edge) for edge in box)
    except (TypeError, ValueError):
        raise UserError(f"{position}: bbox is not x, y, width and height in pixels") from None
    return [x, y, round(x + width, 3), round(y + height, 3)]
