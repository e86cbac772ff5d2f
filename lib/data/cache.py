"""Resized images on disk, so that an image is decoded once and not in every epoch.

The resize comes first in both transforms and is not random, so batches are identical to the bit
with and without a cache. One file holds a split at one image side; its name is a hash of the
images' paths, sizes and times and of `--exif`, so a changed image makes a new file. A second file
beside it lists the images that could not be read.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image

from lib.common.console import print_line, progress_bar
from lib.common.errors import UserError, writing
from lib.common.files import move_into_place, write_json
from lib.common.readers import read_array, read_json
from lib.data.bad_images import BadImages, Unreadable
from lib.data.pictures import read_image
from lib.data.transforms import resize

GIGABYTE = 1e9


class ImageCache:
    """The resized images of one list of paths, uint8 of `shape` (N, S, S, 3)."""

    def __init__(self, file: Path, shape: tuple[int, ...]) -> None:
        self.file, self.shape = file, shape
        unread = _unread_file(file)
        self.unread: dict[str, str] = read_json(unread) if unread.exists() else {}
        if not all(isinstance(reason, str) for reason in self.unread.values()):
            raise UserError(f"{unread}: not a file that --cache writes")
        self._pixels: np.ndarray | None = self._mapped()

    def image(self, row: int) -> Image.Image:
        """One image, or the `UserError` with which it could not be read."""
        if str(row) in self.unread:
            raise UserError(self.unread[str(row)])
        if self._pixels is None:
            self._pixels = self._mapped()
        return Image.fromarray(self._pixels[row])

    def _mapped(self) -> np.ndarray:
        pixels = read_array(self.file)
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise UserError(f"{self.file}: not a file that --cache writes")
        return pixels

    def __getstate__(self) -> dict[str, object]:
        """Without the mapped pixels: other processes map the file themselves."""
        return {**vars(self), "_pixels": None}


def cached_images(
    paths: Sequence[str],
    size: int,
    exif: str,
    folder: Path,
    limit: float,
    workers: int,
    bad_images: BadImages,
) -> ImageCache:
    """The cache of `paths`, read by `exif`, at `size` x `size` in `folder`, written in parallel
    where it is missing.

    Whole or not at all; images are identified by sizes and times, and a damaged file is rewritten.
    Images that cannot be read are added to `bad_images`. Raises `UserError` for more of them than
    it tolerates, and for more than `limit` gigabytes.
    """
    file = folder / f"{_digest(paths, size, exif)}-{size}px.npy"
    shape = (len(paths), size, size, 3)
    if file.exists():
        try:
            return ImageCache(file, shape)
        except UserError as error:
            print_line(f"warning: {error}; it is rewritten")
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
            # reserve the space now: on a full disk, writing to a mapped file kills the process
            open_memmap(name, mode="w+", dtype=np.uint8, shape=shape).flush()
            if hasattr(os, "posix_fallocate"):
                with open(name, "rb+") as opened:
                    os.posix_fallocate(opened.fileno(), 0, os.path.getsize(name))
        with ProcessPoolExecutor(max(1, workers)) as pool:
            write_row = partial(_write_row, name, size, exif)
            rows = pool.map(write_row, range(len(paths)), paths, chunksize=16)
            reasons = {}
            for row, reason in enumerate(progress_bar(rows, "cache", "image", total=len(paths))):
                if not reason:
                    continue
                try:
                    bad_images.add([Unreadable(row, reason)])
                except UserError:
                    pool.shutdown(cancel_futures=True)
                    raise
                reasons[row] = reason
        if reasons:
            write_json(_unread_file(file), reasons)
        else:
            _unread_file(file).unlink(missing_ok=True)  # left by a cache that was removed
        with writing(file):
            move_into_place(name, file)
    except BaseException:
        os.unlink(name)
        raise
    print_line(f"cache: {len(paths)} images, {needed:.2f} GB in {file}")
    return ImageCache(file, shape)


def _unread_file(file: Path) -> Path:
    """The list of images that could not be read for `file`, by row."""
    return file.with_suffix(".unread.json")


def _write_row(name: str, size: int, exif: str, row: int, path: str) -> str | None:
    try:
        pixels = np.asarray(resize(read_image(path, exif), size))
    except UserError as error:
        return str(error)
    np.load(name, mmap_mode="r+", allow_pickle=False)[row] = pixels
    return None


def _digest(paths: Sequence[str], size: int, exif: str) -> str:
    content = hashlib.sha256(f"{size} {exif}".encode())
    for path in paths:
        try:
            state = os.stat(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        content.update(f"{path}\n{state.st_size} {state.st_mtime_ns}\n".encode())
    return content.hexdigest()[:20]
