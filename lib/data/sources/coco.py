"""A .json file in the form of MS-COCO's instances; only the parts that matter are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.lists import check_labels
from lib.data.sources.annotations import AnnotatedImage, Row

MAX_COORDINATE = 1e8  # pixels; larger ones are refused


class CocoImage(msgspec.Struct):
    id: int
    file_name: str


class Category(msgspec.Struct):
    id: int
    name: str


class Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, ...] | None = None
    iscrowd: int | None = 0


class Instances(msgspec.Struct):
    """The parts of an instances file that matter."""

    images: list[CocoImage]
    categories: list[Category]
    annotations: list[Annotation]


def is_coco(source: Path) -> bool:
    """Whether `source` is a file of this form."""
    return source.suffix.lower() == ".json" and source.is_file()


def read_coco(file: Path, images: Path | None) -> Iterator[Row]:
    """A row for each image of an instances file, without a split."""
    samples, _ = samples_of(read_instances(file), images or file.parent, file, keep_empty=True)
    return (Row(sample, None, str(file)) for sample in samples)


def read_instances(file: Path) -> Instances:
    """Read an instances file. Raises `UserError` for JSON of another form."""
    return decode_json(file, Instances)


def samples_of(
    instances: Instances, folder: Path, file: Path, keep_empty: bool = False
) -> tuple[list[AnnotatedImage], int]:
    """The images with annotations (all with `keep_empty`), by image id, with their files in
    `folder`; and the number of images without.

    Crowds count as labels; their boxes are left out. `file` names the source in errors.
    """
    names: dict[int, str] = {}
    for number, category in enumerate(instances.categories):
        place = f"{file}: categories[{number}]"
        if category.id in names:
            raise UserError(f"{place}: id {category.id} is a duplicate")
        names[category.id] = category.name.strip()
    check_labels(list(names.values()), lambda row: f"{file}: categories[{row}]")
    images: dict[int, str] = {}
    for number, image in enumerate(instances.images):
        if image.id in images:
            raise UserError(f"{file}: images[{number}]: id {image.id} is a duplicate")
        images[image.id] = image.file_name
    labels: dict[int, set[str]] = {}
    objects: dict[int, list[dict[str, Any]]] = {}
    for number, annotation in enumerate(instances.annotations):
        place = f"{file}: annotations[{number}]"
        if annotation.category_id not in names:
            raise UserError(f"{place}: category_id {annotation.category_id} is no category")
        if annotation.image_id not in images:
            raise UserError(f"{place}: image_id {annotation.image_id} is no image")
        label = names[annotation.category_id]
        labels.setdefault(annotation.image_id, set()).add(label)
        if annotation.bbox and not annotation.iscrowd:
            if len(annotation.bbox) != 4 or not all(
                abs(edge) < MAX_COORDINATE for edge in annotation.bbox
            ):
                raise UserError(f"{place}: bbox is not x, y, width and height in pixels")
            x, y, width, height = annotation.bbox
            box = [x, y, round(x + width, 3), round(y + height, 3)]
            found = {"label": label, "box": box, "difficult": False}
            objects.setdefault(annotation.image_id, []).append(found)
    samples = [
        AnnotatedImage(
            (folder / images[id]).as_posix(), labels.get(id, ()), objects=objects.get(id, [])
        )
        for id in sorted(images if keep_empty else labels)
    ]
    return samples, len(images) - len(labels)
