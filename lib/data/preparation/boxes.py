"""Boxes of annotations in the pixels of their pictures, and whether they belong to them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lib.common.console import progress_bar
from lib.common.errors import UserError
from lib.data.pictures import PictureHeader, read_header
from lib.data.sources.annotations import AnnotatedImage

TOLERANCE = 1.0  # pixels by which a box may leave its picture: VOC counts from 1


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


def place_boxes(samples: Sequence[AnnotatedImage], exif: str) -> list[str]:
    """Turn boxes from fractions of a side into pixels; gives notes.

    Raises `UserError` where the source says width and height of the picture the other way round:
    its boxes were drawn on the picture as it is stored, or upright, and this is the other one.
    """
    having = [one for one in samples if one.objects and (one.has_fractions or one.size)]
    headers = headers_of([sample.path for sample in having], exif)
    other = []
    for sample in having:
        header = headers.get(sample.path)
        size = header.size if header else sample.size
        if size is None:  # neither the file nor the source says it
            sample.objects = []
            continue
        if header and sample.size and size == sample.size[::-1] != sample.size:
            raise UserError(_other_orientation(sample.path, sample.size, header, exif))
        if sample.size not in (None, size):
            other.append(sample)
        if sample.has_fractions:
            sample.objects = [{**one, "box": _scaled(one["box"], size)} for one in sample.objects]
    notes = []
    if other:
        notes.append(
            f"{len(other)} images have another size than their annotations say, for example "
            f"{other[0].path}: their boxes may not fit"
        )
    return notes + _drop_empty(samples)


def _drop_empty(samples: Sequence[AnnotatedImage]) -> list[str]:
    """Drop boxes that end where they begin, or before; their labels stay."""
    dropped = 0
    for sample in samples:
        kept = [one for one in sample.objects if _has_area(one["box"])]
        dropped += len(sample.objects) - len(kept)
        sample.objects = kept
    return [f"left out: {dropped} boxes without an area; their labels stay"] if dropped else []


def _has_area(box: Sequence[float]) -> bool:
    return box[0] < box[2] and box[1] < box[3]


def _other_orientation(path: str, said: tuple[int, int], header: PictureHeader, exif: str) -> str:
    here = (
        f"{path}: its annotations say {said[0]} x {said[1]}, but the image is {said[1]} x {said[0]}"
    )
    if not header.turned:
        return f"{here}: it was turned after its boxes were drawn; annotate it again"
    now, then = ("upright", "stored") if exif == "upright" else ("stored", "upright")
    return (
        f"{here} as it is {now} (by EXIF): its boxes were drawn on the {then} image; pass --exif "
        f"{then} here and to train.py, or annotate it again"
    )


def leaves(box: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether a box leaves its picture by more than `TOLERANCE`."""
    x0, y0, x1, y1 = box
    inside = x0 >= -TOLERANCE and y0 >= -TOLERANCE
    inside &= x1 <= size[0] + TOLERANCE and y1 <= size[1] + TOLERANCE
    return not inside


def is_outside(box: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether a box leaves its picture, or has no area."""
    return leaves(box, size) or not _has_area(box)


def _scaled(box: Sequence[float], size: tuple[int, int]) -> list[float]:
    return [round(edge * size[number % 2], 2) for number, edge in enumerate(box)]
