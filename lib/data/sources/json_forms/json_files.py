"""Which form a .json file has: an object with certain keys, or a list of such objects."""

from pathlib import Path

import msgspec

from lib.common.readers import decode_json


def kind_of_json(file: Path) -> tuple[str, set[str]]:
    """The kind of a .json file, and the keys of its object, or of the first one of its list.

    Raises `UserError` for what is no JSON.
    """
    content = decode_json(file, dict[str, msgspec.Raw] | list[msgspec.Raw])
    if isinstance(content, dict):
        return ".json object", set(content)
    try:
        first = msgspec.json.decode(content[0]) if content else None
    except (msgspec.DecodeError, RecursionError):
        first = None
    return ".json list", set(first) if isinstance(first, dict) else set()
