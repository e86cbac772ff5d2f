"""The parsed form of a long list: its arrays in a file beside it, which all processes of a machine
map into memory. The file has the form of safetensors.

Shapes: N images, C labels.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lib.common.errors import UserError
from lib.common.files import atomic_write, file_digest
from lib.data.lists import read_split
from lib.data.split import Paths, Split, sparse_marks

KEPT_FROM = 1 << 20  # bytes of a list; a shorter one is parsed in a tenth of a second
FORM = 1  # of the file
DTYPES = {"U8": np.uint8, "I32": np.int32, "I64": np.int64}


class _Array(msgspec.Struct):
    dtype: str
    data_offsets: tuple[int, int]


class _About(msgspec.Struct):
    key: str
    name: str
    labels: str


class _Header(msgspec.Struct, rename={"about": "__metadata__"}):
    """The arrays of a split, and the `key` of what it was read from."""

    about: _About
    paths: _Array
    path_offsets: _Array
    positives: _Array
    positive_offsets: _Array
    unknown: _Array
    unknown_offsets: _Array


@dataclass(frozen=True, eq=False)
class MappedSplit(Split):
    """A split that `file` keeps, mapped into memory. A worker that is not forked maps it too."""

    file: Path
    key: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _map_again, (self.file, self.key)


def open_split(file: Path, labels: Sequence[str], ignore: Path | None = None) -> Split:
    """`read_split`; a long list is parsed once, unless its folder is read-only."""
    if not file.is_file() or file.stat().st_size < KEPT_FROM:
        return read_split(file, labels, ignore)
    sources = [file_digest(one) for one in (file, ignore) if one]
    key = hashlib.sha256("\n".join([str(FORM), *sources, *labels]).encode()).hexdigest()
    kept = file.with_name(f".{file.stem}.parsed")
    if found := map_split(kept, key):
        return found
    split = read_split(file, labels, ignore)
    if not os.access(file.parent, os.W_OK):
        return split
    _keep(split, kept, key)
    return map_split(kept, key) or split


def map_split(file: Path, key: str) -> MappedSplit | None:
    """The split that `file` keeps; None if it is not there, is damaged, or has another `key`."""
    try:
        with open(file, "rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header = msgspec.json.decode(opened.read(min(size, 1 << 16)), type=_Header)
            content = np.memmap(opened, np.uint8, "r", opened.tell())
        if header.about.key != key:
            return None

        def array(one: _Array) -> np.ndarray:
            start, stop = one.data_offsets
            if stop > len(content):
                raise ValueError("the file was cut off")
            return np.asarray(content[start:stop]).view(DTYPES[one.dtype])

        paths = Paths(array(header.paths), array(header.path_offsets))
        shape = len(paths), int(header.about.labels)
        positives = sparse_marks(array(header.positive_offsets), array(header.positives), shape)
        unknown = sparse_marks(array(header.unknown_offsets), array(header.unknown), shape)
        for marks in (positives, unknown):
            marks.check_format(full_check=True)
    except (OSError, ValueError, KeyError, msgspec.MsgspecError):
        return None
    known = np.zeros(len(paths), bool)
    return MappedSplit(header.about.name, paths, positives, unknown, known, file, key)


def _map_again(file: Path, key: str) -> MappedSplit:
    split = map_split(file, key)
    if split is None:
        raise UserError(f"{file}: changed while a run reads it: start the run again (--resume)")
    return split


def _keep(split: Split, file: Path, key: str) -> None:
    """Write the arrays of a split for `map_split`."""
    arrays = {
        "path_offsets": split.paths.offsets,
        "positive_offsets": split.positives.indptr,
        "unknown_offsets": split.unknown.indptr,
        "positives": split.positives.indices,
        "unknown": split.unknown.indices,
        "paths": split.paths.block,
    }
    # the larger integers first, so that each array is aligned
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    about = {"key": key, "name": split.name, "labels": str(split.shape[1])}
    header: dict[str, Any] = {"__metadata__": about}
    start = 0
    for name, one in arrays.items():
        place = [start, start := start + one.nbytes]
        header[name] = {"dtype": names[one.dtype], "shape": [len(one)], "data_offsets": place}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(file, "wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        for one in arrays.values():
            opened.write(one.data)
