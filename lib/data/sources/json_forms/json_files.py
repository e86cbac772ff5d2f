"""Which form a .json file has: an object with certain keys, or a list of such objects."""

from pathlib import Path
from typing import Any

import msgspec

from lib.common.errors import UserError
from lib.common.readers import decode_json

EXPORT = "export it as COCO"
# words that are keys of a family of files, and what to do with them
FAMILIES = {
    "segments_info": "COCO's panoptic annotations: convert them to instances, by panopticapi",
    "caption": "COCO's captions: they have no labels, pass the instances of the same images",
    "question": "questions on images, without labels of them",
    "asset regions": f"VoTT's: {EXPORT}",
    "item annotations": f"Darwin's, of V7: {EXPORT}",
    "data_row projects": f"Labelbox's: {EXPORT}",
    "coordinates": "Create ML's: convert it to COCO",
    "box2d": "BDD100K's: convert it to COCO",
    "classTitle": f"Supervisely's: {EXPORT}",
    "items categories": f"Datumaro's: {EXPORT}",
    "type features": "GeoJSON: convert it to COCO",
}


def kind_of_json(file: Path) -> tuple[str, set[str]]:
    """The kind of a .json file, and the keys of its object, or of the first one of its list or of
    its many objects.

    Raises `UserError` for what is no JSON.
    """
    content = decode_json(file, dict[str, msgspec.Raw] | list[msgspec.Raw])
    values = list(content.values()) if isinstance(content, dict) else content
    try:
        first = msgspec.json.decode(values[0]) if values else None
    except (msgspec.DecodeError, RecursionError):
        first = None
    keys = set(first) if isinstance(first, dict) else set()
    if isinstance(content, list):
        return ".json list", keys
    is_map = {"filename", "regions"} <= keys  # of a name to its object
    return (".json object of objects", keys) if is_map else (".json object", set(content))


def seems(file: Path) -> str:
    """What a .json file seems to be that is not read, and what to do; "" for an unknown one."""
    try:
        content = decode_json(file, dict[str, Any] | list[Any])
    except UserError:
        return ""
    keys = _keys(content)
    return next((text for known, text in FAMILIES.items() if {*known.split()} <= keys), "")


def _keys(value: Any, depth: int = 3) -> set[str]:
    """The keys of an object, and those of the first objects in it."""
    if isinstance(value, list):
        return _keys(value[0], depth) if value else set()
    if not isinstance(value, dict) or not depth:
        return set()
    return set(value).union(*(_keys(one, depth - 1) for one in value.values()))
