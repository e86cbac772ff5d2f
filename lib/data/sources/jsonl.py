"""A .jsonl file, a line of JSON for each image, as Hugging Face's image folders have it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.data.lists import check_label
from lib.data.sources.annotations import (
    LABEL_NAMES,
    PATH_NAMES,
    SPLIT_NAMES,
    ReadOptions,
    Row,
    text_row,
)
from lib.data.sources.cells import finite, texts


def is_jsonl(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is a .jsonl file."""
    return source.suffix.lower() in (".jsonl", ".ndjson") and source.is_file()


def read_jsonl(file: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """Lines of `{"file_name": ..., "labels": [...]}` (or one text), perhaps with "split", or with
    `"objects": {"bbox": [[x, y, width, height]], "categories": [...]}`.

    Files that lie in folders named train, val or test belong to these splits.
    """
    folders = (file.parent, Path())
    rows = []
    for number, line in numbered_lines(file):
        if not line.strip():
            continue
        position = f"{file}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{position}: not JSON: {error}") from error
        path = _first(record, options.path_column, PATH_NAMES)
        if not isinstance(path, str):
            raise UserError(f'{position}: expected {{"file_name": ..., "labels": [...]}}')
        labels = _first(record, options.labels_column, LABEL_NAMES)
        objects = _objects(record["objects"], position) if record.get("objects") else []
        if labels is None and objects is not None and "objects" in record:
            labels = []
        listed = labels if isinstance(labels, str) else _texts(labels)
        if listed is None:
            raise UserError(f"{position}: labels must be text or a list of texts")
        split = record.get("split")
        group = record.get(options.group) if options.group else None
        group = None if group is None else str(group)
        row = text_row(path, listed, split, options, folders, position, group)
        found = [one["label"] for one in objects]
        row.image.labels = list(dict.fromkeys([*row.image.labels, *found]))
        row.image.objects = objects
        rows.append((row, path.replace("\\", "/").split("/")[0].lower()))
    if all(row.split is None and folder in SPLIT_NAMES for row, folder in rows):
        notes.append("split by the first folder of each file name")
        return iter([row._replace(split=SPLIT_NAMES[folder]) for row, folder in rows])
    return iter([row for row, _ in rows])


def _first(record: Any, given: str | None, usual: Sequence[str]) -> Any:
    """The value of the first of these keys that a record has."""
    if not isinstance(record, dict):
        return None
    lower = {str(key).strip().lower(): value for key, value in record.items()}
    names = [given.strip().lower()] if given is not None else usual
    return next((lower[name] for name in names if lower.get(name) is not None), None)


def _texts(labels: Any) -> list[str] | None:
    """A list of labels as texts; a number alone is one label."""
    if isinstance(labels, list):
        return texts(labels)
    return texts([labels]) if labels is not None else None


def _objects(value: Any, position: str) -> list[dict[str, Any]]:
    """The objects of `{"bbox": [...], "categories": [...]}`."""
    value = value if isinstance(value, Mapping) else {}
    boxes = value.get("bbox", [])
    labels = texts(_list(value, ("categories", "category", "labels", "label")))
    if labels is None or not isinstance(boxes, list) or len(boxes) not in (0, len(labels)):
        raise UserError(
            f'{position}: expected "objects": {{"bbox": [[x, y, width, height], ...], '
            '"categories": [...]} of equal lengths'
        )
    found = []
    for label, box in zip(labels, boxes, strict=False):
        check_label(label.strip(), position)
        try:
            x, y, width, height = (finite(edge) for edge in box)
        except (TypeError, ValueError):
            raise UserError(f"{position}: bbox is not x, y, width and height in pixels") from None
        corners = [x, y, round(x + width, 3), round(y + height, 3)]
        found.append({"label": label.strip(), "box": corners, "difficult": False})
    return found


def _list(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    found: Any = next((value[name] for name in names if name in value), [])
    return found if isinstance(found, list) else [None]
