"""Locks between processes. File systems without locks (NFS without a lock service, some FUSE and
Lustre mounts) are used without them; no locking on Windows."""

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lib.common.console import print_note

if sys.platform != "win32":
    import fcntl

# EBADF is NFS's answer for a folder, which cannot be opened for writing
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}


def lock_file(file: IO[Any]) -> bool:
    """Lock a file that is open for writing, until it is closed; False if another process holds it.

    Prints a note, and returns True, where the file system has no locks.
    """
    try:
        # not flock: the data loading workers would inherit it, and outlive a killed run
        with _noted_where_missing(file.name):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder` inside the block; without one, after a note, where its
    file system has none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with _noted_where_missing(folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _noted_where_missing(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _note_missing(path, error.strerror)


@functools.cache
def _note_missing(path: str | Path, reason: str | None) -> None:
    """Once for each path."""
    print_note(
        f"{path}: this file system has no locks ({reason}); continuing without: make sure that no "
        "second process writes there"
    )
