"""Reads untrusted files; any problem with one raises a `UserError` that names it."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from lib.common.errors import UserError

if TYPE_CHECKING:  # `--help` of train.py reads this file
    import numpy as np


NO_NUMBER = re.compile(rb"(?<=[\[,:])\s*(?:NaN|-?Infinity)(?=\s*[,\]}])")


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 text without their line ends, numbered from 1."""
    try:
        with open(file, encoding="utf-8-sig", newline=None) as lines:
            for number, line in enumerate(lines, 1):
                yield number, line.rstrip("\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def read_array(file: Path) -> "np.ndarray":
    """One memory-mapped `.npy` array; pickles are refused."""
    import numpy as np

    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # damaged bytes can raise any error
        raise UserError(f"{file}: not a readable .npy array") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{file}: holds several arrays, expected one (.npy)")
    return array


def decode_json(file: Path, kind: Any) -> Any:
    """Read JSON of the type `kind` (msgspec structs); keys that it does not name are ignored.

    Python writes NaN and Infinity, which are no JSON, and become null.
    """
    try:
        content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
        if b"NaN" in content or b"Infinity" in content:
            content = NO_NUMBER.sub(b"null", content)
        return msgspec.json.decode(content, type=kind)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{file}: not the JSON that is expected: {error}") from error


def require_list(file: Path, remedy: str) -> list[str]:
    """The lines of a required text file, stripped, without empty ones.

    A missing or empty file raises `UserError`; `remedy` says what to do about a missing one.
    """
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


def read_settings(file: Path) -> dict[Any, Any]:
    """The settings of a YAML file, `key: value`; values are text, lists or mappings.

    A file that is not YAML, as one printed by hand may not be, is read by its `key: value` lines.
    """
    try:
        content = read_yaml(file)
    except UserError:
        lines = (re.match(r"(\w+):\s+(.*)", line) for _, line in numbered_lines(file))
        content = {line[1]: line[2].strip() for line in lines if line}
    if not isinstance(content, dict):
        return {}
    return content


def read_yaml(file: Path) -> Any:
    """The content of a YAML file, with all values as text; it builds no objects."""
    text = "\n".join(line for _, line in numbered_lines(file))
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
