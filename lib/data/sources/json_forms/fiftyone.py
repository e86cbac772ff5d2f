"""FiftyOne's export of classifications: `labels.json`, with the images in `data/` beside it."""

from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.sources.annotations import (
    AnnotatedImage,
    ReadOptions,
    image_at,
    least_confidence,
    print_unused,
)


def read_fiftyone(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """An image for each entry of `labels`: file name without ending -> one label or several, each a
    name, its number among `classes`, or `{"label": ...}`, perhaps with a confidence; null is no
    label."""
    content = decode_json(file, dict[str, Any])
    classes, entries = content.get("classes") or [], content["labels"]
    if not isinstance(entries, dict) or not isinstance(classes, list):
        raise UserError(
            f'{file}: expected {{"classes": [...], "labels": {{name: label, ...}}}} (read as an '
            "export of FiftyOne)"
        )
    images = []
    given = {
        name: value if isinstance(value, list) else [] if value is None else [value]
        for name, value in entries.items()
    }
    sure = [_confidence(one) for values in given.values() for one in values]
    least = least_confidence(sure, file, options)
    for name, values in given.items():
        names = [name, f"data/{name}"] if options.images else [f"data/{name}"]
        image = image_at(names, options, (file.parent,), f"{file}: labels[{name!r}]")
        found = [one for one in values if _confidence(one) >= least]
        image.add_names([_label(one, classes, image.position) for one in found])
        images.append(image)
    print_unused((one for one in classes if isinstance(one, str)), images, file)
    return images


def _confidence(value: Any) -> float:
    found = value.get("confidence") if isinstance(value, dict) else None
    return found if isinstance(found, (int, float)) else 1


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
