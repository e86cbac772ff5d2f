"""Files of LabelMe, one .json for each picture: shapes with labels, and flags of the picture."""

import math
from pathlib import Path
from typing import Any

import msgspec

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, image_at
from lib.data.sources.cells import around, picture_size

BOXLESS = ("point", "points", "line", "linestrip")


class Shape(msgspec.Struct):
    label: str
    points: list[tuple[float, float]] = []
    shape_type: str | None = "polygon"
    difficult: bool | None = False


class Annotation(msgspec.Struct):
    """The parts of a file that matter; its `imageData` may hold the whole picture."""

    shapes: list[Shape]
    imagePath: str = ""
    imageWidth: Any = None
    imageHeight: Any = None
    flags: dict[str, Any] | None = None


def is_labelme(file: Path) -> bool:
    """Whether a .json file has LabelMe's keys."""
    try:
        content = decode_json(file, dict[str, msgspec.Raw] | list[msgspec.Raw])
    except UserError:
        return False
    return isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys()


def read_labelme(source: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """An image for each .json file of a folder, or for one file."""
    files = labelme_files(source) if source.is_dir() else [source]
    images = []
    for file in files:
        if not is_labelme(file):
            print_line(f"{file}: left out: not of LabelMe's form")
            continue
        content = decode_json(file, Annotation)
        path = content.imagePath.replace("\\", "/")
        names = [path, Path(path).name, file.stem]
        image = image_at(names, options, (file.parent, file.parent.parent / "images"), str(file))
        image.size = picture_size(content.imageWidth, content.imageHeight)
        for shape in content.shapes:
            image.add(shape.label.strip(), _box(shape, file), bool(shape.difficult))
        image.add_names(name for name, is_set in (content.flags or {}).items() if is_set is True)
        images.append(image)
    return images


def labelme_files(folder: Path) -> list[Path]:
    """The .json files of a folder."""
    return sorted(file for file in folder.glob("*.json") if not file.name.startswith("."))


def _box(shape: Shape, file: Path) -> list[float] | None:
    if shape.shape_type in BOXLESS or len(shape.points) < 2:
        return None
    try:
        if shape.shape_type != "circle":
            return around(shape.points)
        (x, y), edge = shape.points[:2]
        radius = math.dist((x, y), edge)
        return around(((x - radius, y - radius), (x + radius, y + radius)))
    except ValueError as error:
        raise UserError(f"{file}: shape {shape.label!r}: its points are no pixels") from error
