"""Boxes of annotations in the pixels of their pictures, and whether they belong to them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lib.common.cli import STORED, UPRIGHT
from lib.common.console import print_line, progress_bar
from lib.common.errors import UserError
from lib.data.boxes import has_area
from lib.data.pictures import PictureHeader, read_header
from lib.data.sources.annotations import AnnotatedImage


def headers_of(paths: Sequence[str], exif: str) -> dict[str, PictureHeader]:
    """The size of each picture as it is read under `exif`; without those that cannot be opened."""

    def header(path: str) -> PictureHeader | None:
        try:
            return read_header(path, exif)
        except UserError:
            return None

    if not paths:
        return {}
    with ThreadPoolExecutor() as pool:
        found = progress_bar(pool.map(header, paths), "sizes", "image", total=len(paths))
        return {path: one for path, one in zip(paths, found, strict=True) if one}


def place_boxes(images: Sequence[AnnotatedImage], exif: str) -> None:
    """Turn boxes from fractions of a side into pixels, and drop those without an area.

    Raises `UserError` where the source says width and height of the picture the other way round:
    its boxes were drawn on the picture as it is stored, or upright, and this is the other one.
    """
    having = [one for one in images if one.objects and (one.has_fractions or one.size)]
    headers = headers_of([image.path for image in having], exif)
    other = []
    for image in having:
        header = headers.get(image.path)
        size = header.size if header else image.size
        if size is None:  # neither the file nor the source says it
            image.objects = []
            continue
        if header and image.size and size == image.size[::-1] != image.size:
            other_way = STORED if exif == UPRIGHT else UPRIGHT
            raise UserError(
                f"{image.path}: its annotations say {size[1]} x {size[0]}, but the image is "
                f"{size[0]} x {size[1]} as it is read ({exif}): if EXIF turns it, pass --exif "
                f"{other_way} here and to train.py, otherwise annotate it again"
            )
        if image.size not in (None, size):
            other.append(image.path)
        for one in image.objects if image.has_fractions else ():
            one["box"] = [round(edge * size[row % 2], 2) for row, edge in enumerate(one["box"])]
    if other:
        print_line(
            f"{len(other)} images have another size than their annotations say, for example "
            f"{other[0]}: their boxes may not fit"
        )
    before = sum(len(image.objects) for image in images)
    for image in images:
        image.objects = [one for one in image.objects if has_area(one["box"])]
    if dropped := before - sum(len(image.objects) for image in images):
        print_line(f"left out: {dropped} boxes without an area; their labels stay")
