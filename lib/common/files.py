"""Atomic writes: every file of the project is written through this module."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from lib.common.errors import UserError, writing
from lib.common.locks import folder_lock
from lib.common.signals import deferred_signals
from lib.common.text import escape_controls

# reading it means setting it, which is not safe once there are threads
UMASK = os.umask(0)
os.umask(UMASK)


@contextlib.contextmanager
def atomic_write(
    path: str | Path, mode: str = "w", previous: str | Path | None = None
) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; rename it to `path` when the block ends without error.

    `mode` is "w" (UTF-8 text, "\\n" line ends) or "wb". The old file at `path` stays untouched
    until the new content is on the disk; then it is kept as `previous`, if that is given.
    """
    path = Path(path)
    options: dict[str, Any] = {}
    if "b" not in mode:  # file names may hold characters that UTF-8 cannot encode
        options = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:20]}.")
        try:
            with open(descriptor, mode, **options) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            move_into_place(name, path, previous)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise


def move_into_place(name: str, path: Path, previous: str | Path | None = None) -> None:
    """Rename the finished temporary file `name` to `path`, with the permissions of the file that it
    replaces, or the usual ones.

    An old file at `path` is kept as `previous`, if that is given.
    """
    # only its owner may read a temporary file
    os.chmod(name, path.stat().st_mode & 0o777 if path.is_file() else 0o666 & ~UMASK)
    if previous is not None and path.exists():
        os.replace(path, previous)
    os.replace(name, path)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk, so that a rename survives a power cut."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic_write(path) as file:
        file.write(text)


def file_digest(file: Path) -> str:
    """The SHA-256 of a file."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON; numbers keep their full precision."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, one column per key of any row; a missing value is left empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Write one array as `.npy` without pickle."""
    with atomic_write(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def write_npz(path: str | Path, **arrays: np.ndarray) -> None:
    """Write named arrays as a compressed `.npz`."""
    buffer, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez_compressed(buffer, **named)
    with atomic_write(path, "wb") as file:
        file.write(buffer.getbuffer())


def append_line(path: str | Path, line: str) -> None:
    """Append one line in a single write, so that a reader never sees half of it.

    Control characters are escaped, so that it stays one line.
    """
    data = (escape_controls(line, keep="\t") + "\n").encode()
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Append `data` to a file in a single write, or raise `OSError` and leave the file as it is."""
    old_size = os.fstat(descriptor).st_size
    if os.write(descriptor, data) < len(data):
        os.ftruncate(descriptor, old_size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def staged_folder(target: str | Path, replaces: Collection[str] = ()) -> Iterator[Path]:
    """Yield an empty folder whose entries replace those of `target` when the block ends.

    Entries of `target` that the block did not write stay, except for the names in `replaces`, which
    are removed. After an error or Ctrl-C `target` is unchanged. If two processes write to it at the
    same time, the entries of the later one replace those of the other.
    """
    target = Path(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:20]}."))
    try:
        new, old = stage / "new", stage / "old"
        with writing(target):
            new.mkdir()
            old.mkdir()
        yield new
        with writing(target), deferred_signals():
            target.mkdir(exist_ok=True)
            with folder_lock(target):
                _replace_entries(target, new, old, replaces)
    except UserError as error:
        # name the file by its final path, which the user knows
        error.args = (str(error).replace(str(stage / "new"), str(target)),)
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _replace_entries(target: Path, new: Path, old: Path, replaces: Collection[str]) -> None:
    """Move the entries of `new` to `target`, and those that they replace to `old`."""
    written = {entry.name for entry in new.iterdir()}
    for entry in sorted(new.iterdir()):
        if (target / entry.name).is_dir():
            os.rename(target / entry.name, old / entry.name)
        os.replace(entry, target / entry.name)
    for name in replaces:
        if name not in written and (target / name).exists():
            os.rename(target / name, old / name)
