"""An .xml file of CVAT, in its form "CVAT for images 1.1": a task, a job, or a project."""

import math
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.sources.annotations import SPLIT_NAMES, AnnotatedImage, ReadOptions, image_at
from lib.data.sources.cells import around, finite, picture_size
from lib.data.sources.folders.voc import read_xml

BOXLESS = ("polyline", "points", "cuboid", "skeleton")
NOTHING = ("", "false", "__undefined__")  # values of attributes
SHAPES = {"tag", "box", "polygon", "ellipse", "mask", *BOXLESS}


def read_cvat(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of a file: tags and shapes give labels, boxes and polygons also boxes."""
    root = read_xml(file)
    if root.tag != "annotations" or root.find("image") is None:
        raise UserError(
            f"{file}: expected <annotations> with <image> (read as CVAT's), found <{root.tag}>: "
            'export it from CVAT as "CVAT for images 1.1"; of VOC, pass the folder with all files'
        )
    images = []
    subsets: Counter[str] = Counter()
    for number, element in enumerate(root.iter("image")):
        position = f"{file}: image {number + 1} ({element.get('name', 'without a name')})"
        name, subset = (element.get(key, "").strip() for key in ("name", "subset"))
        folders = [file.parent / "images" / subset, file.parent, file.parent / "images"]
        names = [f"{subset}/{name}", name] if options.images and name and subset else [name]
        image = image_at(names, options, folders, position)
        for shape in (shape for shape in element if shape.tag in SHAPES):
            labels, box = _labels(shape, options.labels_from, position), _box(shape, position)
            image.add_names(labels)
            for label in labels if box else ():
                image.objects.append({"label": label, "box": box, "difficult": False})
        image.size = picture_size(element.get("width"), element.get("height"), position)
        image.split = SPLIT_NAMES.get(subset.lower())
        subsets[subset.lower()] += not image.split
        images.append(image)
    attributes = Counter(one.get("name", "") for one in root.iterfind("image/*/attribute"))
    listed = ", ".join(sorted(attributes))
    if options.labels_from and options.labels_from not in attributes:
        raise UserError(f"--labels-from {options.labels_from}: no attribute of {file}: {listed}")
    if attributes and not options.labels_from:
        print_line(
            f"{file}: left out: {attributes.total()} attributes of labels ({listed}); "
            "--labels-from NAME reads the values of one instead of the labels"
        )
    boxless = Counter(shape.tag for shape in root.iterfind("image/*") if shape.tag in BOXLESS)
    for tag, count in boxless.items():
        print_line(f"{file}: {count} {tag}: labels without a box")
    for subset, count in subsets.items():
        if subset and count:
            print_line(f"{file}: subset {subset!r}: {count} images without a split")
    return images


def _labels(shape: Element, attribute: str | None, position: str) -> list[str]:
    """The label of a shape, or the value of one of its attributes; its name where it is true."""
    label = shape.get("label", "").strip()
    if not label:
        raise UserError(f"{position}: <{shape.tag}>: empty label")
    if attribute is None:
        return [label]
    found = [one for one in shape.iterfind("attribute") if one.get("name") == attribute]
    values = [(one.text or "").strip() for one in found]
    values = [attribute if value.lower() == "true" else value for value in values]
    return [value for value in values if value.lower() not in NOTHING]


def _box(shape: Element, position: str) -> list[float] | None:
    """The box around a shape; None where a shape has no area."""

    def numbers(*names: str) -> list[float]:
        return [finite(shape.get(name)) for name in names]

    try:
        if shape.tag == "box":
            x0, y0, x1, y1 = numbers("xtl", "ytl", "xbr", "ybr")
            turn = math.radians(finite(shape.get("rotation", "0")))
            return _around_turned(x0, y0, x1, y1, turn)
        if shape.tag == "polygon":
            return around(point.split(",") for point in shape.get("points", "").split(";"))
        if shape.tag == "ellipse":
            x, y, across, down = numbers("cx", "cy", "rx", "ry")
            return [x - across, y - down, x + across, y + down]
        if shape.tag == "mask":
            left, top, width, height = numbers("left", "top", "width", "height")
            return [left, top, left + width, top + height]
    except (TypeError, ValueError):
        raise UserError(
            f"{position}: <{shape.tag}> {shape.get('label')}: its coordinates are not numbers of "
            "pixels"
        ) from None
    return None


def _around_turned(x0: float, y0: float, x1: float, y1: float, turn: float) -> list[float]:
    """The box around a box that is turned by `turn` radians about its centre."""
    x, y, width, height = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    horizontal, vertical = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    edges = [x - horizontal, y - vertical, x + horizontal, y + vertical]
    return [round(edge, 3) for edge in edges]
