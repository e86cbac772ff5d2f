"""How an image is read: a file as RGB pixels, upright or as stored, and the samples of a split.

Imports no torch, as the data scripts read images too. Shapes: C labels, S image side.
"""

import contextlib
import functools
import struct
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from lib.common.cli import UPRIGHT
from lib.common.errors import UserError
from lib.common.failures import explain
from lib.data.augment import TRAIN_TRANSFORMS, resize
from lib.data.split import Split

# Pillow's decoders that are used; EPS would start another program
FORMATS = "JPEG MPO PNG WEBP BMP DIB GIF TIFF AVIF HEIF JPEG2000 PPM".split()
HEIF_BRANDS = b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split()
# EXIF orientations -> how Pillow turns a picture upright; 1 turns nothing
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class SampleKey(NamedTuple):
    """An image of an epoch, by its row in the split.

    A padding sample fills a shard that would have no image; it takes no part in the loss.
    """

    epoch: int
    row: int
    is_padding: bool = False


class Unreadable(NamedTuple):
    """An image that could not be read: its row in the split, and a line that names the file."""

    row: int
    reason: str


class Sample(NamedTuple):
    """What a network reads of an image, its labels (C,), and why it could not be read."""

    inputs: np.ndarray
    targets: np.ndarray
    ignore: np.ndarray
    row: int
    error: Unreadable | None = None


class SplitDataset(ABC):
    """What a network reads of the images of a split, indexed by `SampleKey`."""

    def __init__(self, split: Split) -> None:
        self.split = split

    @abstractmethod
    def read(self, key: SampleKey) -> np.ndarray:
        """The input of one image. Raises `UserError` for one that cannot be read."""

    @abstractmethod
    def blank(self) -> np.ndarray:
        """What takes the place of an image that cannot be read."""

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: SampleKey) -> Sample:
        row, error = key.row, None
        try:
            inputs = self.read(key)
        except UserError as raised:
            inputs, error = self.blank(), Unreadable(row, str(raised))
        targets, ignore = self.split.targets_of(row), self.split.ignore_of(row)
        if key.is_padding or error:
            # of padding, the rank that trains on this image reports the error
            unread = None if key.is_padding else error
            return Sample(inputs, targets, np.ones_like(ignore), -1, unread)
        return Sample(inputs, targets, ignore, row)


class ImageDataset(SplitDataset):
    """Pixels, uint8 (3, S, S), of images read by `exif`, through the eval transform or, with
    `augment`, a key of `TRAIN_TRANSFORMS`, through the train transform.

    Random draws depend on (seed, epoch, row) alone. `cached_row` gives the resized image of a row,
    (S, S, 3), where it is kept.
    """

    def __init__(
        self,
        split: Split,
        image_size: int,
        exif: str,
        *,
        augment: str | None = None,
        seed: int = 0,
        cached_row: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        super().__init__(split)
        self.image_size, self.exif = image_size, exif
        self.augment, self.seed, self.cached_row = augment, seed, cached_row

    def read(self, key: SampleKey) -> np.ndarray:
        """Pixels of one image."""
        if self.cached_row:
            image = Image.fromarray(self.cached_row(key.row))
        else:
            image = resize(read_image(self.split.paths[key.row], self.exif), self.image_size)
        if self.augment:
            image = TRAIN_TRANSFORMS[self.augment](image, generator_of(key, self.seed))
        return to_pixels(image)

    def blank(self) -> np.ndarray:
        """Pixels of a black image."""
        return np.zeros((3, self.image_size, self.image_size), np.uint8)


def generator_of(key: SampleKey, seed: int) -> np.random.Generator:
    """The generator of an image's random draws."""
    return np.random.default_rng((seed, key.epoch, key.row))


def to_pixels(image: Image.Image) -> np.ndarray:
    """RGB image -> uint8 (3, H, W)."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def read_image(path: str | Path, exif: str = UPRIGHT) -> Image.Image:
    """Decode an image file to RGB, by `exif` as `upright` or `stored` (see `decode`).

    An animation becomes its first frame.
    """
    with open_image(path) as image:
        return decode(image, path, exif)


@contextlib.contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file. Raises `UserError`, naming the path, if it cannot be opened or decoded.

    Pillow refuses images of more than 179 million pixels; its warnings (half as many pixels, odd
    metadata) are suppressed.
    """
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(path, formats=_known_formats()) as image:
                yield image
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such image") from error
        except Exception as error:  # a damaged file can raise anything in a decoder
            if explain(error):  # nothing is wrong with the file
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, Image.DecompressionBombError):
                reason = f"more than {round(2e-6 * (Image.MAX_IMAGE_PIXELS or 0))} million pixels"
            elif isinstance(error, UnidentifiedImageError):
                reason = _why_unknown(path)
            raise UserError(f"{path}: not a readable image: {reason}") from error


@functools.cache
def _known_formats() -> list[str]:
    """`FORMATS` as far as this Pillow has them; HEIF comes with the package pillow-heif."""
    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def _why_unknown(path: str | Path) -> str:
    """Why no decoder takes the file at `path`."""
    with open(path, "rb") as file:
        start = file.read(12)
    if start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS and "HEIF" not in _known_formats():
        return "HEIC needs another package: pip install pillow-heif"
    return "of no known format"


def decode(image: Image.Image, path: str | Path, exif: str) -> Image.Image:
    """An opened picture as RGB, without its metadata.

    `upright`: turned by its EXIF, and laid over white where it is transparent. `stored`: the pixels
    as they are stored, without transparency, as published (of a TIFF and a HEIC as their decoders
    turn them).
    """
    pixels = to_rgb(image, path, exif)
    if exif == UPRIGHT:
        pixels = turn_upright(pixels, orientation(image))
    pixels.info = {}  # or its EXIF would turn it again
    return pixels


def to_rgb(image: Image.Image, path: str | Path, exif: str) -> Image.Image:
    """Decode an opened picture to RGB as it is stored; see `decode` for transparent ones.

    Grey of 9 to 16 bits is scaled to 8 bits from the bits that its brightest pixel needs: scanners
    store 10, 12 or 14 bits in files of 16.
    """
    if image.mode == "F":
        raise UserError(f"{path}: floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        grey = np.asarray(image).clip(0, 65535).astype(np.uint32)
        white = 2 ** max(8, int(grey.max()).bit_length()) - 1
        return Image.fromarray((grey * 255 // white).astype(np.uint8)).convert("RGB")
    if exif == UPRIGHT and image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    return image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 if there is none or it cannot be read, as in a browser.

    After a TIFF or HEIC was decoded it is 1, since their decoders turn them.
    """
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1
    return found if found in TURNS else 1


def turn_upright(pixels: Image.Image, orientation: int) -> Image.Image:
    """A picture turned as EXIF's `orientation` asks."""
    return pixels.transpose(TURNS[orientation]) if orientation in TURNS else pixels
