"""A .jsonl file with a record for each image, as Hugging Face has it, or a .json list of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import decode_json, numbered_lines
from lib.data.pictures import IMAGE_ENDINGS
from lib.data.sources.annotations import (
    LABEL_NAMES,
    PATH_NAMES,
    SPLIT_NAMES,
    AnnotatedImage,
    ReadOptions,
    image_at,
)
from lib.data.sources.cells import MARKS, corners, name_of, split_labels, texts
from lib.data.sources.given_splits import set_splits
from lib.data.sources.vectors import add_label_lists

LABEL_KEYS = (*LABEL_NAMES, "target", "targets")
OBJECT_NAMES = (*LABEL_NAMES, "category_id", "name")


def read_records(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """Records of `{"file_name": ..., "labels": [...]}` (or one text), perhaps with "split", or with
    `"objects": {"bbox": [[x, y, width, height]], "categories": [...]}`.

    Files that lie in folders named train, val or test belong to these splits.
    """
    rows, lists, folders, labelled = [], [], [], False
    for position, record in _records(file):
        path = _path(record, options)
        if path is None:
            raise UserError(
                f'{position}: expected {{"file_name": ..., "labels": [...]}}, found the keys '
                f"{_keys(record)}; --path-column names the one of the image file"
            )
        image = image_at([path], options, (file.parent, Path()), position)
        labels = _first(record, options.labels_column, LABEL_KEYS)
        labelled |= labels is not None or "objects" in record
        lists.append((image, _labels(labels, options, position)))
        if record.get("objects"):
            _add_objects(image, record["objects"])
        if options.group and (group := _first(record, options.group, ())) is not None:
            image.group = str(group)
        rows.append((image, {str(key).strip().lower(): value for key, value in record.items()}))
        folders.append(path.replace("\\", "/").split("/")[0].lower())
    add_label_lists(lists, file, options)
    images = [image for image, _ in rows]
    given = {
        str(one).lower() for one in (options.path_column, options.labels_column, options.group)
    }
    keys = dict.fromkeys(key for _, record in rows for key in record)
    if splits := set_splits(rows, [key for key in keys if key not in given.union(LABEL_KEYS)]):
        print_line(f"{file}: splits by {', '.join(map(repr, splits))}")
    if rows and not labelled:
        raise UserError(
            f"{position}: no labels; its keys are {_keys(record)}; --labels-column names the one "
            "of the labels"
        )
    if not any(one.split for one in images) and set(folders) <= SPLIT_NAMES.keys():
        print_line(f"{file}: split by the first folder of each file name")
        for image, folder in zip(images, folders, strict=True):
            image.split = SPLIT_NAMES[folder]
    return images


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    """Each record and its position."""
    if file.suffix.lower() == ".json":
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


def _path(record: Any, options: ReadOptions) -> str | None:
    """The path that a record has, or the number; one by a usual key only if no other value is the
    name of a file."""
    path = _first(record, options.path_column, PATH_NAMES)
    if type(path) in (int, float):
        others = [value for value in record.values() if isinstance(value, str)]
        is_file = any(Path(value).suffix.lower() in IMAGE_ENDINGS for value in others)
        path = None if is_file and not options.path_column else str(*texts([path]) or ())
    return path if isinstance(path, str) else None


def _labels(labels: Any, options: ReadOptions, position: str) -> list[str]:
    """Labels of a text, a list, or an object of zeros and ones; a number alone is one label, null
    is none."""
    if isinstance(labels, str):
        return split_labels(labels, options.separator)
    if isinstance(labels, dict) and name_of(labels) is None:
        return _of_object(labels)
    values = labels if isinstance(labels, list) else [] if labels is None else [labels]
    if (found := texts(values)) is None:
        raise UserError(f"{position}: labels must be text or a list of texts")
    return found


def _of_object(values: Mapping[str, Any]) -> list[str]:
    """The labels of `{"dog": 1, "cat": 0}`; with other numbers than marks, each with its number, as
    `dog:0.9`."""
    marks = {name: MARKS.get(str(value).lower(), ...) for name, value in values.items()}
    if ... in marks.values():
        return [f"{name}:{value}" for name, value in values.items()]
    return [f"{'' if one else '?'}{name}" for name, one in marks.items() if one in (True, None)]


def _add_objects(image: AnnotatedImage, value: Any) -> None:
    """Add the labels and boxes of `{"bbox": [...], "categories": [...]}`, or of a list with an
    object for each."""
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        boxes = [one.get("bbox") for one in value]
        labels = texts([_first(one, None, OBJECT_NAMES) for one in value])
    else:
        value = value if isinstance(value, dict) else {}
        boxes, found = value.get("bbox", []), _first(value, None, OBJECT_NAMES) or []
        labels = texts(found) if isinstance(found, list) else None
    if labels is None or not isinstance(boxes, list) or len(boxes) not in (0, len(labels)):
        raise UserError(
            f'{image.position}: expected "objects": {{"bbox": [[x, y, width, height], ...], '
            '"categories": [...]} of equal lengths'
        )
    for label, box in zip(labels, boxes or [None] * len(labels), strict=True):
        image.add(label.strip(), corners(box, image.position) if box else None)
