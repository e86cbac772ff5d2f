"""An .xml file of CVAT, in its form "CVAT for images 1.1": a task, a job, or a project."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from lib.common.errors import UserError
from lib.data.sources.annotations import SPLIT_NAMES, ReadOptions, Row, image_of, image_paths
from lib.data.sources.cells import finite
from lib.data.sources.voc import read_xml

BOXLESS = ("polyline", "points", "cuboid", "skeleton")
SHAPES = {"box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton"}


def is_cvat(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is an .xml file."""
    return source.suffix.lower() == ".xml" and source.is_file()


def read_cvat(file: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """A row for each image: tags and shapes give labels, boxes and polygons also boxes."""
    root = read_xml(file)
    if root.tag == "annotation":
        raise UserError(f"{file}: one file of VOC's form: pass the folder with all of them")
    if root.tag != "annotations" or root.find("image") is None:
        found = "tracks: a video" if root.find("track") is not None else f"a <{root.tag}>"
        raise UserError(
            f"{file}: expected <annotations> with <image> (read as CVAT's), found {found}; export "
            'it from CVAT as "CVAT for images 1.1"'
        )
    subsets: Counter[str] = Counter()
    for number, element in enumerate(root.iter("image")):
        position = f"{file}: image {number + 1} ({element.get('name', 'without a name')})"
        name = element.get("name", "").strip()
        if not name:
            raise UserError(f"{position}: expected an attribute name")
        subset = element.get("subset", "").strip().lower()
        if subset not in SPLIT_NAMES and subset:
            subsets[subset] += 1
        labels, objects = _labels(element, position)
        folders = [file.parent / "images" / element.get("subset", "").strip()]
        folders += [file.parent, file.parent / "images"]
        paths = image_paths(name, options, folders)
        if options.images and subset:
            paths.insert(0, (options.images / element.get("subset", "").strip() / name).as_posix())
        image = image_of(paths, labels, position)
        image.objects, image.size = objects, _size(element, position)
        yield Row(image, SPLIT_NAMES.get(subset), position)
    if attributes := len(root.findall("image/*/attribute")):
        notes.append(f"left out: {attributes} attributes of labels")
    shapes = Counter(element.tag for element in root.iterfind("image/*") if element.tag in BOXLESS)
    for tag, count in shapes.items():
        notes.append(f"{count} {tag}: labels without a box")
    for subset, count in subsets.items():
        notes.append(f"subset {subset!r}: {count} images without a split")


def _labels(image: Element, position: str) -> tuple[list[str], list[dict[str, Any]]]:
    labels: list[str] = []
    objects = []
    for element in image:
        if element.tag != "tag" and element.tag not in SHAPES:
            continue
        label = element.get("label", "").strip()
        if not label:
            raise UserError(f"{position}: <{element.tag}>: empty label")
        labels.append(label)
        try:
            box = _box(element)
        except (TypeError, ValueError):
            raise UserError(
                f"{position}: <{element.tag}> {label}: its coordinates are not numbers of pixels"
            ) from None
        if box:
            box = [int(edge) if edge.is_integer() else edge for edge in box]
            objects.append({"label": label, "box": box, "difficult": False})
    return labels, objects


def _box(element: Element) -> list[float] | None:
    """The box around a shape; None where a shape has no area."""

    def number(name: str) -> float:
        return finite(element.get(name))

    if element.tag == "box":
        left, top, right, bottom = (number(edge) for edge in ("xtl", "ytl", "xbr", "ybr"))
        turn = math.radians(finite(element.get("rotation", "0")))
        return _around_turned(
            (left + right) / 2, (top + bottom) / 2, right - left, bottom - top, turn
        )
    if element.tag == "polygon":
        pairs = [point.split(",") for point in element.get("points", "").split(";")]
        horizontal, vertical = zip(*((finite(x), finite(y)) for x, y in pairs), strict=True)
        return [min(horizontal), min(vertical), max(horizontal), max(vertical)]
    if element.tag == "ellipse":
        x, y, rx, ry = (number(name) for name in ("cx", "cy", "rx", "ry"))
        return [x - rx, y - ry, x + rx, y + ry]
    if element.tag == "mask":
        left, top, width, height = (number(name) for name in ("left", "top", "width", "height"))
        return [left, top, left + width, top + height]
    return None


def _around_turned(x: float, y: float, width: float, height: float, turn: float) -> list[float]:
    """The box around a rectangle that is turned by `turn` radians about its centre (x, y)."""
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    horizontal, vertical = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    edges = [x - horizontal, y - vertical, x + horizontal, y + vertical]
    return [round(edge, 3) for edge in edges]


def _size(image: Element, position: str) -> tuple[int, int] | None:
    if image.get("width") is None or image.get("height") is None:
        return None
    try:
        return int(finite(image.get("width"))), int(finite(image.get("height")))
    except ValueError:
        raise UserError(f"{position}: width and height are not numbers of pixels") from None
