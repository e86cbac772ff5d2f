"""A .json file in the form of MS-COCO's instances; only the parts that matter are read."""

from pathlib import Path

import msgspec

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.sources.annotations import (
    AnnotatedImage,
    ReadOptions,
    image_at,
    print_unused,
    split_name,
)
from lib.data.sources.cells import corners, picture_size
from lib.data.sources.json_forms.json_files import seems

Id = int | float | str


class CocoImage(msgspec.Struct):
    """An image. One without an id goes by its file's name; LVIS names its file by `coco_url`, and
    the labels that it is known not to have by `neg_category_ids`."""

    id: Id | None = None
    file_name: str | None = None
    coco_url: str | None = None
    split: str | None = None
    neg_category_ids: list[Id] | None = None
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


def read_coco(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of an instances file; with --skip-missing, annotations of images that are not
    listed are left out."""
    instances = read_instances(file)
    _drop_unused(instances, file)
    if options.skip_missing:
        ids = {_id(image) for image in instances.images}
        kept = [one for one in instances.annotations if _key(one.image_id) in ids]
        if dropped := len(instances.annotations) - len(kept):
            print_line(f"{file}: left out: {dropped} annotations of images that are not listed")
        instances.annotations = kept
    images = images_of(instances, file, options)
    print_unused((category.name.strip() for category in instances.categories), images, file)
    return images


def read_instances(file: Path) -> Instances:
    """Read an instances file. Raises `UserError`, naming the element, for JSON of another form."""
    try:
        return decode_json(file, Instances)
    except UserError as error:
        family = f"; it seems to be {text}" if (text := seems(file)) else ""
        raise UserError(f"{error} (read as COCO's instances){family}") from error


def images_of(instances: Instances, file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images by id, also those without annotations.

    Crowds count as labels; their boxes are left out. `file` names the source in errors.
    """
    names = _names(instances, file)
    images: dict[str, AnnotatedImage] = {}
    for number, image in enumerate(instances.images):
        place, key = f"{file}: images[{number}]", _id(image)
        if not key:
            raise UserError(f"{place}: neither an id nor a file_name")
        if key in images:
            raise UserError(f"{place}: id {key} is a duplicate")
        folders, position = (file.parent, Path()), f"{file}: image {key}"
        images[key] = image_at(_files(image), options, folders, position)
        images[key].split = split_name(image.split, position)
        images[key].size = picture_size(image.width, image.height)
        for category_id in image.category_ids or ():
            images[key].add(_name_of(category_id, names, place))
    for number, annotation in enumerate(instances.annotations):
        place, key = f"{file}: annotations[{number}]", _key(annotation.image_id)
        label = _name_of(annotation.category_id, names, place)
        if key not in images:
            raise UserError(
                f"{place}: image_id {annotation.image_id} is no image; scripts/custom.py "
                "--skip-missing leaves such annotations out"
            )
        has_box = annotation.bbox and any(annotation.bbox) and not annotation.iscrowd
        images[key].add(label, corners(annotation.bbox, place) if has_box else None)
    _add_unknown(instances, images, names, file)
    return [images[key] for key in sorted(images, key=_order)]


def _add_unknown(
    instances: Instances, images: dict[str, AnnotatedImage], names: dict[str, str], file: Path
) -> None:
    """In LVIS, only the labels that are annotated or denied are known of an image."""
    given = [image for image in instances.images if image.neg_category_ids is not None]
    for image in given:
        known = {*images[_id(image)].labels}
        known |= {_name_of(one, names, str(file)) for one in image.neg_category_ids or ()}
        images[_id(image)].unknown = [name for name in names.values() if name not in known]
    if given:
        print_line(f"{file}: LVIS: labels that are neither annotated nor denied are unknown")


def _id(image: CocoImage) -> str:
    return _key(image.file_name or "" if image.id is None else image.id)


def _files(image: CocoImage) -> list[str]:
    """What the file may be called; of a URL its last folder and its name."""
    if image.file_name is None and image.coco_url:
        parts = image.coco_url.split("/")
        return ["/".join(parts[-2:]), parts[-1]]
    return [image.file_name or ""]


def _names(instances: Instances, file: Path) -> dict[str, str]:
    """The label of each category, by the key of its id."""
    names: dict[str, str] = {}
    for number, category in enumerate(instances.categories):
        name = category.name.strip()
        if _key(category.id) in names or name in names.values():
            raise UserError(
                f"{file}: categories[{number}]: duplicate id or name, {category.id} {name!r}"
            )
        names[_key(category.id)] = name
    return names


def _drop_unused(instances: Instances, file: Path) -> None:
    """Drop the categories that no image has, if a label cannot have their name, or another category
    has it, as the parent category that Roboflow adds."""
    used = {_key(annotation.category_id) for annotation in instances.annotations}
    used |= {_key(one) for image in instances.images for one in image.category_ids or ()}
    names = {one.name.strip() for one in instances.categories if _key(one.id) in used}
    kept: list[Category] = []
    for category in instances.categories:
        name = category.name.strip()
        if _key(category.id) not in used and (name in names or "," in name or not name):
            print_line(f"{file}: left out: category {category.id} {name!r}, which no image has")
            continue
        names.add(name)
        kept.append(category)
    instances.categories = kept


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
