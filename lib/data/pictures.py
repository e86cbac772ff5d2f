"""Image files: their endings, their headers, and their pixels as RGB, upright or as stored."""

import contextlib
import functools
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from lib.common.cli import UPRIGHT
from lib.common.errors import UserError
from lib.common.failures import explain

# file name endings of images, in lower case
IMAGE_ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .pjpeg .png .webp .bmp .gif .tif .tiff .avif .heic .heif .hif .jp2 .ppm "
    ".pgm".split()
)
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
SWAPS_SIDES = (5, 6, 7, 8)  # orientations


class PictureHeader(NamedTuple):
    """What a file says of its picture: `size` is (width, height) as `read_image` gives it,
    `turned` whether the file asks for a turn."""

    size: tuple[int, int]
    turned: bool


def images_in(folder: Path) -> list[Path]:
    """The image files below `folder`, sorted, without hidden ones and those in hidden folders."""
    return sorted(file for file in _visible_in(folder) if _is_image(file))


def other_files_in(folder: Path) -> Iterator[Path]:
    """What else is below `folder` but folders, without hidden ones."""
    return (file for file in _visible_in(folder) if not _is_image(file) and not file.is_dir())


def _visible_in(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_ENDINGS and file.is_file()


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
        except Image.DecompressionBombError as error:
            most = round(2e-6 * (Image.MAX_IMAGE_PIXELS or 0))
            raise UserError(
                f"{path}: not a readable image: more than {most} million pixels"
            ) from error
        except UnidentifiedImageError as error:
            raise UserError(f"{path}: not a readable image: {_why_unknown(path)}") from error
        except Exception as error:  # a damaged file can raise anything in a decoder
            if explain(error):  # nothing is wrong with the file
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
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


def read_image(path: str | Path, exif: str = UPRIGHT) -> Image.Image:
    """Decode an image file to RGB, by `exif` as `upright` or `stored` (see `decode`).

    An animation becomes its first frame.
    """
    with open_image(path) as image:
        return decode(image, path, exif)


def read_header(path: str | Path, exif: str = UPRIGHT) -> PictureHeader:
    """The size that `read_image` would give, and whether the file asks for a turn; decodes nothing.

    Raises `UserError`, naming the path, for a file that cannot be opened.
    """
    with open_image(path) as image:
        (width, height), turn, is_turned = image.size, 1, exif == UPRIGHT
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # Pillow turns it in any case
            turn, is_turned = orientation(image), True
            tags = (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH)
            width, height = (image.tag_v2[tag] for tag in tags)
        elif image.format == "HEIF":  # its decoder turns it, and gives the size after that
            turn, is_turned = image.info.get("original_orientation") or 1, False
        elif image.format != "PNG" or _may_note_exif(path):
            turn = orientation(image)
    if is_turned and turn in SWAPS_SIDES:
        width, height = height, width
    return PictureHeader((width, height), turn in TURNS)


def _may_note_exif(path: str | Path) -> bool:
    """Whether a PNG has a chunk with EXIF, perhaps behind its pixels, for which Pillow decodes
    them."""
    content = Path(path).read_bytes()
    return any(name in content for name in (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp"))


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

    16-bit grey is scaled to 8 bits, not clipped to white.
    """
    if image.mode == "F":
        raise UserError(f"{path}: floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        grey = np.asarray(image).clip(0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
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
