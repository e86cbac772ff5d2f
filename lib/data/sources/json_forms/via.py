"""A .json file of VGG's Image Annotator: regions and attributes of each picture."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.sources.annotations import LABEL_NAMES, AnnotatedImage, ReadOptions, image_at
from lib.data.sources.cells import around, finite, split_labels

USUAL = (*LABEL_NAMES, "name", "type", "object")  # attributes that hold labels


def read_via(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of a project or an export. The labels are the values of one attribute of regions
    or files: the one that --labels-from names, the only one, or one of a usual name."""
    content = decode_json(file, dict[str, Any])
    entries = content.get("_via_img_metadata", content)
    entries = entries if isinstance(entries, dict) else {}
    found = [(f"{file}: {key}", one) for key, one in entries.items() if isinstance(one, dict)]
    parts = [(position, entry, [*_parts(entry)]) for position, entry in found]
    attribute = _attribute([one for _, _, given in parts for one, _ in given], file, options)
    images = []
    for position, entry, given in parts:
        folders = (file.parent, file.parent / "images")
        image = image_at([str(entry.get("filename", ""))], options, folders, position)
        for attributes, shape in given:
            box = _box(shape, position)
            for label in _labels(attributes.get(attribute)):
                image.add(label, box)
        images.append(image)
    return images


def _parts(entry: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The attributes and the shape of each region, and those of the file, without a shape."""
    regions = entry.get("regions") or ()
    for region in regions.values() if isinstance(regions, dict) else regions:
        if isinstance(region, dict):
            attributes, shape = (
                region.get(key) for key in ("region_attributes", "shape_attributes")
            )
            yield (
                attributes if isinstance(attributes, dict) else {},
                shape if isinstance(shape, dict) else {},
            )
    if isinstance(attributes := entry.get("file_attributes"), dict):
        yield attributes, {}


def _attribute(given: list[Mapping[str, Any]], file: Path, options: ReadOptions) -> str:
    """The attribute that holds the labels; prints the others."""
    names = Counter(name for attributes in given for name, value in attributes.items() if value)
    if options.labels_from:
        chosen = options.labels_from
    else:
        usual = [name for key in USUAL for name in names if name.strip().lower() == key]
        chosen = next(iter(usual), *names if len(names) == 1 else "")
    if chosen not in names:
        listed = ", ".join(sorted(names)) or "none"
        raise UserError(
            f"{file}: which attribute holds the labels? --labels-from NAME says; it has {listed}"
        )
    if others := sorted(names.keys() - {chosen}):
        print_line(f"{file}: labels: {chosen!r}; attributes left out: {', '.join(others)}")
    return chosen


def _labels(value: Any) -> list[str]:
    """The labels of a text, or of a check box, which says true for each of several."""
    if isinstance(value, dict):
        return [str(name).strip() for name, is_set in value.items() if is_set]
    return [one for one in split_labels(value) if one] if isinstance(value, str) else []


def _box(shape: Mapping[str, Any], position: str) -> list[float] | None:
    """The box around a rectangle, polygon, circle or ellipse."""
    try:
        if "all_points_x" in shape:
            return around(zip(shape["all_points_x"], shape["all_points_y"], strict=True))
        if "width" in shape:
            x, y, width, height = (finite(shape[key]) for key in ("x", "y", "width", "height"))
            return [x, y, x + width, y + height]
        if "cx" in shape and ("r" in shape or "rx" in shape):
            x, y = finite(shape["cx"]), finite(shape["cy"])
            across = finite(shape.get("r", shape.get("rx")))
            down = finite(shape.get("r", shape.get("ry")))
            return [x - across, y - down, x + across, y + down]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{position}: a shape whose coordinates are not pixels") from None
    return None
