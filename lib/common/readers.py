"""Reads files that others made; whatever is wrong with one is a `UserError` that names it."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from lib.common.errors import UserError


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 text without their ends, numbered from 1."""
    try:
        with open(file, encoding="utf-8-sig", newline=None) as lines:
            for number, line in enumerate(lines, 1):
                yield number, line.rstrip("\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def read_array(file: Path) -> np.ndarray:
    """One `.npy` array, never a pickle, mapped: memory is taken for what is used of it."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # bytes from elsewhere can fail the reader in any way
        raise UserError(f"{file}: not a readable .npy array") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{file}: holds several arrays, expected one (.npy)")
    return array


def decode_json(file: Path, kind: Any) -> Any:
    """Read JSON of the type `kind` (msgspec structs); what it does not name is passed over."""
    try:
        return msgspec.json.decode(file.read_bytes().removeprefix(codecs.BOM_UTF8), type=kind)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{file}: not the JSON that is expected: {error}") from error


def require_list(file: Path, remedy: str) -> list[str]:
    """The lines of one of the official lists, without the space around them and empty ones."""
    if not file.is_file():
        raise UserError(f"{file}: no such file; {remedy}")
    lines = [line.strip() for _, line in numbered_lines(file) if line.strip()]
    if not lines:
        raise UserError(f"{file}: an empty list")
    return lines


def read_json(file: Path) -> dict[str, Any]:
    """Load a JSON object."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: expected a JSON object")
    return value


def read_settings(file: Path) -> dict[str, str]:
    """`key: value` lines as text, whatever the values hold; others are passed over.

    Of YAML, quotes are understood, and long values that go on in indented lines.
    """
    values: dict[str, str] = {}
    name = None
    for _, line in numbered_lines(file):
        if match := re.match(r"(\w+):(?:\s+(.*))?$", line):
            name = match[1]
            values[name] = (match[2] or "").strip()
        elif name and line[:1].isspace() and line.strip():
            values[name] += f" {line.strip()}"
        elif line.strip():
            name = None
    return {name: _unquoted(value) for name, value in values.items()}


def _unquoted(value: str) -> str:
    if value[:1] not in ("'", '"'):
        return value
    try:
        text = yaml.load(value, Loader=yaml.BaseLoader)  # makes text only, and runs nothing
    except (yaml.YAMLError, RecursionError, ValueError):
        return value
    return text if isinstance(text, str) else value
