"""Files that hold an array for each image of a list: its resized pixels here, the features of a
frozen backbone in `lib/experiment/features.py`.

A file's name is a hash of all that its rows depend on, such as the images' paths, sizes and times,
so a changed image makes a new file. A second file beside it lists the images that could not be
read.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from lib.common.console import print_line, progress_bar
from lib.common.errors import UserError, writing
from lib.common.files import move_into_place, write_json
from lib.common.readers import read_array, read_json
from lib.data.augment import resize
from lib.data.bad_images import BadImages
from lib.data.dataset import Unreadable, read_image

GIGABYTE = 1e9
# writes the rows into the file of a name; yields once an image, and why one could not be read
WriteRows = Callable[[str], Iterator[Unreadable | None]]


class RowCache:
    """An array of `shape` (N, ...) in `file`, a row for each of N images.

    `flag` is the one that asked for it. Other processes map the file themselves.
    """

    def __init__(self, file: Path, shape: tuple[int, ...], dtype: Any, flag: str) -> None:
        self.file, self.shape, self.dtype, self.flag = file, shape, dtype, flag
        unread = _unread_file(file)
        self.unread: dict[str, str] = read_json(unread) if unread.exists() else {}
        if not all(isinstance(reason, str) for reason in self.unread.values()):
            raise UserError(f"{unread}: not a file that {flag} writes")
        self._rows: np.ndarray | None = self._mapped()

    def row(self, row: int) -> np.ndarray:
        """What is kept of one image. Raises the `UserError` with which it could not be read."""
        if str(row) in self.unread:
            raise UserError(self.unread[str(row)])
        if self._rows is None:
            self._rows = self._mapped()
        return self._rows[row]

    def _mapped(self) -> np.ndarray:
        rows = read_array(self.file)
        if rows.shape != self.shape or rows.dtype != self.dtype:
            raise UserError(f"{self.file}: not a file that {self.flag} writes")
        return rows

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_rows": None}


def get_cache(
    file: Path,
    shape: tuple[int, ...],
    dtype: Any,
    flag: str,
    *,
    limit: float,
    bad_images: BadImages,
    write_rows: WriteRows,
) -> RowCache:
    """The cache in `file`, written where it is missing or damaged, whole or not at all.

    Images that cannot be read are added to `bad_images`. Raises `UserError` for more of them than
    it tolerates, and for more than `limit` gigabytes.
    """
    if file.exists():
        try:
            return RowCache(file, shape, dtype, flag)
        except UserError as error:
            print_line(f"warning: {error}; it is rewritten")
    needed = np.dtype(dtype).itemsize * float(np.prod(shape, dtype=float)) / GIGABYTE
    takes = f"{flag} {file.parent}: {shape[0]} images take {needed:.1f} GB"
    if needed > limit:
        raise UserError(
            f"{takes}, more than --cache-limit {limit:g}: raise it, or leave {flag} out"
        )
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(file.parent).free / GIGABYTE
    if needed > free:
        raise UserError(f"{takes}, and {free:.1f} GB are free: free some, or choose another folder")
    reasons = {}
    with _new_file(file, shape, dtype) as name:
        for bad in progress_bar(write_rows(name), flag, "image", total=shape[0]):
            if bad:
                bad_images.add([bad])
                reasons[bad.row] = bad.reason
        if reasons:
            write_json(_unread_file(file), reasons)
        else:
            _unread_file(file).unlink(missing_ok=True)  # left by a cache that was removed
    print_line(f"{flag}: {shape[0]} images, {needed:.2f} GB in {file}")
    return RowCache(file, shape, dtype, flag)


def cached_images(
    paths: Sequence[str],
    size: int,
    exif: str,
    folder: Path,
    limit: float,
    workers: int,
    bad_images: BadImages,
) -> RowCache:
    """The images of `paths`, read by `exif` and resized, uint8 (N, S, S, 3), in a file in `folder`;
    made in parallel where it is missing. See `get_cache`.

    The resize comes first in both transforms and is not random, so batches are identical to the
    bit with and without a cache.
    """
    return get_cache(
        folder / f"{image_digest(paths, size, exif)}-{size}px.npy",
        (len(paths), size, size, 3),
        np.uint8,
        "--cache",
        limit=limit,
        bad_images=bad_images,
        write_rows=partial(_write_images, paths, size, exif, workers),
    )


def image_digest(paths: Sequence[str], size: int, exif: str) -> str:
    """A hash of images and of how they are read. Raises `UserError` for one that is missing."""
    content = hashlib.sha256(f"{size} {exif}".encode())
    for path in paths:
        try:
            state = os.stat(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        content.update(f"{path}\n{state.st_size} {state.st_mtime_ns}\n".encode())
    return content.hexdigest()[:20]


def _write_images(
    paths: Sequence[str], size: int, exif: str, workers: int, name: str
) -> Iterator[Unreadable | None]:
    with ProcessPoolExecutor(max(1, workers)) as pool:
        write_image = partial(_write_image, name, size, exif)
        try:
            yield from pool.map(write_image, range(len(paths)), paths, chunksize=16)
        finally:
            pool.shutdown(cancel_futures=True)


def _write_image(name: str, size: int, exif: str, row: int, path: str) -> Unreadable | None:
    try:
        pixels = np.asarray(resize(read_image(path, exif), size))
    except UserError as error:
        return Unreadable(row, str(error))
    np.load(name, mmap_mode="r+", allow_pickle=False)[row] = pixels
    return None


@contextlib.contextmanager
def _new_file(file: Path, shape: tuple[int, ...], dtype: Any) -> Iterator[str]:
    """The name of a .npy file of zeros, which takes the place of `file` if the block succeeds."""
    with writing(file.parent):
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        os.close(descriptor)
    try:
        with writing(file):
            # reserve the space now: on a full disk, writing to a mapped file kills the process
            open_memmap(name, mode="w+", dtype=dtype, shape=shape).flush()
            if hasattr(os, "posix_fallocate"):
                with open(name, "rb+") as opened:
                    os.posix_fallocate(opened.fileno(), 0, os.path.getsize(name))
        yield name
        with writing(file):
            move_into_place(name, file)
    except BaseException:
        os.unlink(name)
        raise


def _unread_file(file: Path) -> Path:
    """The list of images that could not be read for `file`, by row."""
    return file.with_suffix(".unread.json")
