"""Whole-or-nothing writes: every file of the project is written through this module."""

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from lib.common.errors import UserError
from lib.common.signals import deferred_signals
from lib.common.text import escape_controls

# it can only be read by setting it, which several threads must not do at once
UMASK = os.umask(0)
os.umask(UMASK)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an `OSError` inside (full disk, no permission) into a `UserError` naming `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written: {reason}") from error


@contextlib.contextmanager
def atomic_write(
    path: str | Path, mode: str = "w", former: str | Path | None = None
) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; rename it to `path` when the block ends without error.

    `mode` is "w" (UTF-8 text, "\\n" line ends) or "wb". Whatever stood at `path` stays untouched
    until the new content is safely on the disk; then it is kept as `former`, where that is given.
    """
    path, text = Path(path), {}
    if "b" not in mode:  # names may hold what no encoding has
        text = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:20]}.")
        try:
            with open(descriptor, mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            move_into_place(name, path, former)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise


def move_into_place(name: str, path: Path, former: str | Path | None = None) -> None:
    """Rename a finished temporary file, which its maker alone may read, to `path`, for all to read;
    what stood there is kept as `former`, where that is given."""
    os.chmod(name, 0o666 & ~UMASK)
    if former is not None and path.exists():
        os.replace(path, former)
    os.replace(name, path)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk, so that a rename outlives a power cut."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON; numbers keep their full precision."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, a column per key of any row; what a row lacks is left empty."""
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
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with atomic_write(path, "wb") as file:
        file.write(buffer.getbuffer())


def append_line(path: str | Path, line: str) -> None:
    """Append one line in a single write, so that a reader never sees half of it.

    Control characters are spelt out, so that it stays one.
    """
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            before, data = (
                os.fstat(descriptor).st_size,
                (escape_controls(line, keep="\t") + "\n").encode(),
            )
            if os.write(descriptor, data) < len(data):
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def staged_folder(target: str | Path, replaces: Collection[str] = ()) -> Iterator[Path]:
    """Yield an empty folder whose entries replace those of `target` when the block ends.

    Entries of `target` that the block did not write again stay, but for those of the names that it
    `replaces` as a whole. On an error, or Ctrl-C, `target` is as it was; of two processes that
    write to it at once, the later one's entries replace the other's.
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
            with _alone_in(target):
                _replace_entries(target, new, old, replaces)
    except UserError as error:
        # the user knows the file by the place that it was meant for
        error.args = (str(error).replace(str(stage / "new"), str(target)),)
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _replace_entries(target: Path, new: Path, old: Path, replaces: Collection[str]) -> None:
    """Move the entries of `new` to `target`, and what must give way to `old`."""
    written = {entry.name for entry in new.iterdir()}
    for entry in sorted(new.iterdir()):
        if (target / entry.name).is_dir():
            os.rename(target / entry.name, old / entry.name)
        os.replace(entry, target / entry.name)
    for name in replaces:
        if name not in written and (target / name).exists():
            os.rename(target / name, old / name)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in this block for `folder`, where its file system can lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
