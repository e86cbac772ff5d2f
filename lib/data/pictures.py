"""Picture files without their pixels: their endings, those in a folder, headers, and copies."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import TiffImagePlugin

from lib.common.cli import UPRIGHT
from lib.common.files import file_digest
from lib.data.dataset import TURNS, open_image, orientation

# file name endings of images, in lower case
IMAGE_ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .pjpeg .png .webp .bmp .gif .tif .tiff .avif .heic .heif .hif .jp2 .ppm "
    ".pgm".split()
)
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


def identical_files(paths: Sequence[str]) -> Iterable[list[int]]:
    """The rows of files with the same bytes; only files of the same size are read."""
    sizes: dict[int, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        sizes[_size(path)].append(row)
    same: dict[str, list[int]] = defaultdict(list)
    for size, rows in sizes.items():
        for row in rows if len(rows) > 1 and size > 0 else ():
            same[file_digest(Path(paths[row]))].append(row)
    return [rows for rows in same.values() if len(rows) > 1]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0
