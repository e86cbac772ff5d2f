"""Which form a .json file has: a list, or an object with certain keys."""

from pathlib import Path

import msgspec

from lib.common.readers import decode_json


def is_json(source: Path) -> bool:
    """Whether `source` is a .json file."""
    return source.suffix.lower() == ".json" and source.is_file()


def keys_of(source: Path) -> set[str] | None:
    """The keys of the object in a .json file; None for a list, and for another file.

    Raises `UserError` for what is no JSON.
    """
    if not is_json(source):
        return None
    value = decode_json(source, dict[str, msgspec.Raw] | list[msgspec.Raw])
    return set(value) if isinstance(value, dict) else None


def keys_of_first(source: Path) -> set[str]:
    """The keys of the first object of the list in a .json file; none where there is no such."""
    if not is_json(source):
        return set()
    value = decode_json(source, dict[str, msgspec.Raw] | list[msgspec.Raw])
    try:
        first = msgspec.json.decode(value[0]) if isinstance(value, list) and value else None
    except (msgspec.DecodeError, RecursionError):
        first = None
    return set(first) if isinstance(first, dict) else set()
