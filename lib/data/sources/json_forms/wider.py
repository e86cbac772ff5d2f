"""The .json file of WIDER Attribute: people in boxes, each with attributes of 1, -1 and 0."""

from pathlib import Path
from typing import Any

import msgspec

from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, image_at
from lib.data.sources.cells import corners


class Target(msgspec.Struct):
    attribute: list[int]
    bbox: Any = None


class WiderImage(msgspec.Struct):
    file_name: str
    targets: list[Target] = []


class Wider(msgspec.Struct):
    images: list[WiderImage]
    attribute_id_map: dict[str, str]


def read_wider(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """An image has the attributes that one of its people has; those of which nobody is known to
    have them, and of which it is not known of somebody (0), are unknown."""
    content = decode_json(file, Wider)
    names = [content.attribute_id_map.get(str(n)) for n in range(len(content.attribute_id_map))]
    if None in names:
        raise UserError(f"{file}: attribute_id_map: expected names of 0 to {len(names) - 1}")
    labels = [str(name).strip() for name in names]
    images = []
    for number, one in enumerate(content.images):
        position = f"{file}: images[{number}]"
        image = image_at([one.file_name], options, (file.parent, Path()), position)
        perhaps = []
        for target in one.targets:
            if len(target.attribute) != len(labels):
                raise UserError(f"{position}: expected {len(labels)} attributes of each target")
            box = corners(target.bbox, position) if target.bbox else None
            for label, value in zip(labels, target.attribute, strict=True):
                if value > 0:
                    image.add(label, box)
                elif value == 0:
                    perhaps.append(label)
        image.add_names(f"?{label}" for label in perhaps if label not in image.labels)
        images.append(image)
    return images
