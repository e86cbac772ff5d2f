"""Resized images on the disk, so that a picture is decoded once and not in every epoch.

The resize comes first in both transforms and draws nothing, so that batches are the same bits with
and without. One file holds a split at one side; its name says of which pictures, by their paths,
sizes and times, so that a changed one makes a new file. Pictures that could not be read are listed
in a second file beside it.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image

from lib.common.console import print_line, progress_bar
from lib.common.errors import UserError
from lib.common.files import move_into_place, write_json, writing
from lib.common.readers import read_array, read_json
from lib.data.bad_images import Unreadable, refuse
from lib.data.transforms import read_image, resize

GIGABYTE = 1e9


class ImageCache:
    """The resized images of one list of paths, uint8 of `shape` (N, S, S, 3); `image(row)` gives
    one, as Pillow's, or raises the `UserError` with which it could not be read."""

    def __init__(self, file: Path, shape: tuple[int, ...]) -> None:
        self.file, self.shape = file, shape
        unread = _unread_file(file)
        self.unread: dict[str, str] = read_json(unread) if unread.exists() else {}
        if not all(isinstance(reason, str) for reason in self.unread.values()):
            raise UserError(f"{unread}: not what --cache writes")
        self._pixels: np.ndarray | None = self._mapped()

    def image(self, row: int) -> Image.Image:
        if str(row) in self.unread:
            raise UserError(self.unread[str(row)])
        if self._pixels is None:
            self._pixels = self._mapped()
        return Image.fromarray(self._pixels[row])

    def _mapped(self) -> np.ndarray:
        pixels = read_array(self.file)
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise UserError(f"{self.file}: not what --cache writes")
        return pixels

    def __getstate__(self) -> dict[str, object]:
        """Other processes map the file themselves."""
        return {**vars(self), "_pixels": None}


def cached_images(
    paths: Sequence[str],
    size: int,
    folder: Path,
    limit: float,
    workers: int,
    unreadable: Callable[[list[Unreadable]], None] = refuse,
) -> ImageCache:
    """The cache of `paths` at `size` x `size` in `folder`, written in parallel where it is missing.

    Whole or not at all; pictures are checked by sizes and times, and a damaged file is written
    anew. Raises `UserError` for more than `limit` gigabytes. `unreadable` hears of pictures that
    cannot be read, and may raise, as by default.
    """
    file = folder / f"{_digest(paths, size)}-{size}px.npy"
    shape = (len(paths), size, size, 3)
    if file.exists():
        try:
            return ImageCache(file, shape)
        except UserError as error:
            print_line(f"warning: {error}; it is written anew")
    needed = len(paths) * size * size * 3 / GIGABYTE
    if needed > limit:
        raise UserError(
            f"--cache {folder}: {len(paths)} images of {size} x {size} take {needed:.1f} GB, more "
            f"than --cache-limit {limit:g}: raise it, or leave --cache out"
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{file.name}.")
        os.close(descriptor)
    try:
        with writing(file):
            # the room is taken now: a full disk would kill who writes to a mapped file
            open_memmap(name, mode="w+", dtype=np.uint8, shape=shape).flush()
            if hasattr(os, "posix_fallocate"):
                with open(name, "rb+") as opened:
                    os.posix_fallocate(opened.fileno(), 0, os.path.getsize(name))
        with ProcessPoolExecutor(max(1, workers)) as pool:
            rows = pool.map(partial(_write_row, name, size), range(len(paths)), paths, chunksize=16)
            reasons = {}
            for row, error in enumerate(progress_bar(rows, "cache", "image", total=len(paths))):
                if not error:
                    continue
                try:
                    unreadable([Unreadable(row, error)])
                except UserError:
                    pool.shutdown(cancel_futures=True)
                    raise
                reasons[row] = error
        if reasons:
            write_json(_unread_file(file), reasons)
        else:
            _unread_file(file).unlink(missing_ok=True)  # of a cache that somebody removed
        with writing(file):
            move_into_place(name, file)
    except BaseException:
        os.unlink(name)
        raise
    print_line(f"cache: {len(paths)} images, {needed:.2f} GB in {file}")
    return ImageCache(file, shape)


def _unread_file(file: Path) -> Path:
    """What lists the pictures that could not be read for `file`, by row."""
    return file.with_suffix(".unread.json")


def _write_row(name: str, size: int, row: int, path: str) -> str | None:
    try:
        pixels = np.asarray(resize(read_image(path), size))
    except UserError as error:
        return str(error)
    np.load(name, mmap_mode="r+", allow_pickle=False)[row] = pixels
    return None


def _digest(paths: Sequence[str], size: int) -> str:
    content = hashlib.sha256(str(size).encode())
    for path in paths:
        try:
            state = os.stat(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        content.update(f"{path}\n{state.st_size} {state.st_mtime_ns}\n".encode())
    return content.hexdigest()[:20]
