"""Reads untrusted files; any problem with one raises a `UserError` that names it."""

import codecs
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import yaml

from lib.common.errors import UserError

if TYPE_CHECKING:  # `--help` of train.py reads this file
    import numpy as np

# the most bytes of a file by its kind: what is larger is not what it claims to be
YAML = 4 * 2**20  # a megabyte takes seconds
SETTINGS = 64 * 2**20  # JSON of one experiment
LINE = 16 * 2**20  # of a text
ANNOTATIONS = 8 * 2**30  # read whole


def require_file(file: Path, most: float = float("inf")) -> int:
    """The size of an untrusted file, in bytes, before anything reads it.

    Raises `UserError` for a folder, a pipe or a device, whose content has no end, and for more than
    `most` bytes. Files of /proc, which may block, have the size 0.
    """
    try:
        state = os.stat(file)
    except (OSError, ValueError) as error:  # the latter for what can be no path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: cannot be read: {reason}") from error
    if not stat.S_ISREG(state.st_mode):
        raise UserError(f"{file}: cannot be read: a folder, a pipe or a device, not a file")
    if state.st_size > most:
        raise UserError(
            f"{file}: has {state.st_size:,} bytes, more than the {most:,.0f} that such a file may "
            "have"
        )
    return state.st_size


def open_untrusted(file: Path, most: float = float("inf")) -> IO[bytes]:
    """Open a file that `require_file` accepts; an empty one is not read at all."""
    if not require_file(file, most):
        return io.BytesIO()
    try:
        return open(file, "rb")
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error


NO_NUMBER = re.compile(rb"(?<=[\[,:])\s*(?:NaN|-?Infinity)(?=\s*[,\]}])")


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 text without their line ends, numbered from 1."""
    with open_untrusted(file) as content:
        lines = io.TextIOWrapper(content, encoding="utf-8-sig", newline=None)
        number = 0
        try:
            while line := lines.readline(LINE):
                number += 1
                if len(line) == LINE:
                    raise UserError(f"{file}:{number}: a line of more than {LINE:,} characters")
                yield number, line.rstrip("\n")
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise UserError(
                f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8"
            ) from error


def read_array(file: Path) -> "np.ndarray":
    """One memory-mapped `.npy` array; pickles are refused."""
    import numpy as np

    require_file(file)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # damaged bytes can raise any error
        raise UserError(f"{file}: not a readable .npy array") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{file}: holds several arrays, expected one (.npy)")
    return array


def decode_json(file: Path, kind: Any, most: float = ANNOTATIONS) -> Any:
    """Read JSON of the type `kind` (msgspec structs); keys that it does not name are ignored.

    Python writes NaN and Infinity, which are no JSON, and become null.
    """
    try:
        with open_untrusted(file, most) as opened:
            content = opened.read().removeprefix(codecs.BOM_UTF8)
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
    if not file.exists():
        raise UserError(f"{file}: no such file; {remedy}")
    lines = [line.strip() for _, line in numbered_lines(file) if line.strip()]
    if not lines:
        raise UserError(f"{file}: an empty list")
    return lines


def read_json(file: Path, most: float = ANNOTATIONS) -> dict[str, Any]:
    """Load a JSON object."""
    try:
        with open_untrusted(file, most) as content:
            value = json.loads(content.read().decode())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: expected a JSON object")
    return value


def read_settings(file: Path) -> dict[Any, Any]:
    """The settings of a YAML file, `key: value`; values are text, lists or mappings.

    A file that is not YAML, as one printed by hand may not be, is read by its `key: value` lines.
    """
    require_file(file, YAML)
    try:
        content = read_yaml(file)
    except UserError:
        lines = (re.match(r"(\w+):\s+(.*)", line) for _, line in numbered_lines(file))
        content = {line[1]: line[2].strip() for line in lines if line}
    if not isinstance(content, dict):
        return {}
    return content


def read_yaml(file: Path) -> Any:
    """The content of a YAML file, with all values as text; it builds no objects.

    Aliases are refused: a few of them stand for a text without end.
    """
    require_file(file, YAML)
    text = "\n".join(line for _, line in numbered_lines(file))
    try:
        if "*" in text:
            for token in yaml.scan(text):
                if isinstance(token, yaml.AliasToken):
                    line = token.start_mark.line + 1
                    raise UserError(f"{file}:{line}: an alias, *{token.value}: write out its value")
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
