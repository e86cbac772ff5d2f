"""A .json file in the form of MS-COCO's instances; only the parts that matter are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, Row, image_paths, note_unused
from lib.data.sources.json_files import keys_of

MAX_COORDINATE = 1e8  # pixels; larger ones are refused

Id = int | float | str


class CocoImage(msgspec.Struct):
    id: Id
    file_name: str
    width: Id | None = None
    height: Id | None = None
    category_ids: list[Id] | None = None


class Category(msgspec.Struct):
    id: Id
    name: str


class Annotation(msgspec.Struct):
    image_id: Id
    category_id: Id
    bbox: tuple[float, ...] | None = None
    iscrowd: bool | int | None = 0


class Instances(msgspec.Struct):
    """The parts of an instances file that matter."""

    images: list[CocoImage]
    categories: list[Category]
    annotations: list[Annotation] = []


def is_coco(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is a .json file with some of this form's keys."""
    return bool((keys_of(source) or set()) & {"images", "annotations", "categories"})


def read_coco(file: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """A row for each image of an instances file, without a split."""
    instances = read_instances(file)
    _drop_unused(instances, file, notes)
    if options.skip_missing:
        _drop_without_image(instances, notes)
    samples, _ = samples_of(instances, options.images or file.parent, file, keep_empty=True)
    names = {_key(image.id): image.file_name for image in instances.images}
    rows = []
    for sample, key in zip(samples, sorted(names, key=_order), strict=True):
        sample.path, *others = image_paths(names[key], options, (file.parent, Path()))
        sample.other_paths = others
        rows.append(Row(sample, None, f"{file}: image {key}"))
    note_unused((category.name.strip() for category in instances.categories), rows, notes)
    return iter(rows)


def read_instances(file: Path) -> Instances:
    """Read an instances file. Raises `UserError`, naming the element, for JSON of another form."""
    try:
        return decode_json(file, Instances)
    except UserError as error:
        raise UserError(f"{error} (read as COCO's instances)") from error


def samples_of(
    instances: Instances, folder: Path, file: Path, keep_empty: bool = False
) -> tuple[list[AnnotatedImage], int]:
    """The images with annotations (all with `keep_empty`), by image id, with their files in
    `folder`; and the number of images without.

    Crowds count as labels; their boxes are left out. `file` names the source in errors.
    """
    names: dict[str, str] = {}
    for number, category in enumerate(instances.categories):
        key = _key(category.id)
        if key in names:
            raise UserError(f"{file}: categories[{number}]: id {category.id} is a duplicate")
        name = category.name.strip()
        if name in names.values():
            raise UserError(f"{file}: categories[{number}]: duplicate label {name!r}")
        names[key] = name
    images: dict[str, CocoImage] = {}
    labels: dict[str, set[str]] = {}
    for number, image in enumerate(instances.images):
        place, key = f"{file}: images[{number}]", _key(image.id)
        if key in images:
            raise UserError(f"{place}: id {image.id} is a duplicate")
        images[key] = image
        for category_id in image.category_ids or ():
            labels.setdefault(key, set()).add(_name_of(category_id, names, place))
    objects: dict[str, list[dict[str, Any]]] = {}
    for number, annotation in enumerate(instances.annotations):
        place, key = f"{file}: annotations[{number}]", _key(annotation.image_id)
        label = _name_of(annotation.category_id, names, place)
        if key not in images:
            raise UserError(
                f"{place}: image_id {annotation.image_id} is no image; scripts/custom.py "
                "--skip-missing leaves such annotations out"
            )
        labels.setdefault(key, set()).add(label)
        if annotation.bbox and any(annotation.bbox) and not annotation.iscrowd:
            found = {"label": label, "box": _box(annotation.bbox, place), "difficult": False}
            objects.setdefault(key, []).append(found)
    samples = [
        AnnotatedImage(
            (folder / images[key].file_name).as_posix(),
            labels.get(key, ()),
            objects=objects.get(key, []),
            size=_size(images[key]),
        )
        for key in sorted(images if keep_empty else labels, key=_order)
    ]
    return samples, len(images) - len(labels)


def _drop_unused(instances: Instances, file: Path, notes: list[str]) -> None:
    """Drop the categories that no image has, if a label cannot have their name, or another category
    has it, as the parent category that Roboflow adds."""
    used = {_key(annotation.category_id) for annotation in instances.annotations}
    used |= {_key(one) for image in instances.images for one in image.category_ids or ()}
    of_used = {one.name.strip() for one in instances.categories if _key(one.id) in used}
    kept: list[Category] = []
    for category in instances.categories:
        name = category.name.strip()
        repeats = name in of_used or any(name == one.name.strip() for one in kept)
        if _key(category.id) not in used and (repeats or "," in name or not name):
            notes.append(f"left out: category {category.id} {name!r}, which no image has")
        else:
            kept.append(category)
    instances.categories = kept


def _drop_without_image(instances: Instances, notes: list[str]) -> None:
    images = {_key(image.id) for image in instances.images}
    kept = [one for one in instances.annotations if _key(one.image_id) in images]
    if dropped := len(instances.annotations) - len(kept):
        notes.append(f"left out: {dropped} annotations of images that are not listed")
    instances.annotations = kept


def _key(number: Id) -> str:
    """The same text for 7, 7.0 and "7"."""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return str(number).strip()


def _order(key: str) -> tuple[int, int, str]:
    """Numbers by value, then texts."""
    is_number = key.isascii() and key.lstrip("-").isdigit() and len(key) < 20
    return (0, int(key), "") if is_number else (1, 0, key)


def _name_of(category_id: Id, names: dict[str, str], place: str) -> str:
    if _key(category_id) not in names:
        raise UserError(f"{place}: category_id {category_id} is no category")
    return names[_key(category_id)]


def _box(bbox: tuple[float, ...], place: str) -> list[float]:
    if len(bbox) != 4 or not all(abs(edge) < MAX_COORDINATE for edge in bbox):
        raise UserError(f"{place}: bbox is not x, y, width and height in pixels")
    x, y, width, height = bbox
    return [x, y, round(x + width, 3), round(y + height, 3)]


def _size(image: CocoImage) -> tuple[int, int] | None:
    """Width and height, where both are numbers of pixels."""
    sides = image.width, image.height
    if all(isinstance(side, (int, float)) and 0 < side < MAX_COORDINATE for side in sides):
        return int(sides[0]), int(sides[1])  # type: ignore[arg-type]
    return None
