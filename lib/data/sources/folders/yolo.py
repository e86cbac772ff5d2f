"""A YOLO data set: `data.yaml`, folders or lists of images, and a .txt file of objects for each."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import numbered_lines, read_yaml
from lib.data.pictures import images_in
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, print_unused
from lib.data.sources.cells import around

ROUNDING = 0.01  # beyond the picture's edge that exporters leave, as a fraction of its side


def read_yolo(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of `train`, `val` and `test`; those that are listed without a .txt file have no
    labels. `options.images` is the folder to which these paths are relative."""
    content = read_yaml(file)
    content = content if isinstance(content, dict) else {}
    given = {split: _listed(content.get(split)) for split in ("train", "val", "test")}
    given["val"] = given["val"] or _listed(content.get("valid"))
    if not any(given.values()):
        raise UserError(f"{file}: expected a YOLO data set: names, and train, val or test")
    names = _names(content, file)
    named = file.parent / _text(content.get("path") or ".", "path", file)
    roots = [options.images] if options.images else [named, file.parent]
    for split, other in (("val", "train"), ("test", "train"), ("val", "test")):
        if given[split] and given[split] == given[other]:
            print_line(f"{file}: {split} is the same as {other}: read once, as {other}")
            given[split] = []
    images = [
        _annotated(picture, names, file, split)
        for split, places in given.items()
        for place in places
        for picture in _pictures(_resolved(roots, _text(place, split, file), file, split))
    ]
    if without := sum(not os.path.isfile(_labels_file(Path(image.path))) for image in images):
        print_line(f"{file}: {without} images without a .txt file: no labels")
    print_unused(names.values(), images, file)
    return images


def _listed(places: Any) -> list[Any]:
    places = places if isinstance(places, list) else [places]
    return [place for place in places if place not in (None, "")]


def _labels_file(picture: Path) -> Path:
    """The .txt file of an image: beside it, or in `labels` for an image in `images`."""
    parts = list(picture.with_suffix(".txt").parts)
    if "images" in parts:  # the last one, as YOLO does
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def _annotated(picture: Path, names: Mapping[int, str], source: Path, split: str) -> AnnotatedImage:
    """An image with its objects, whose boxes are in fractions of a side."""
    path = picture.as_posix()
    image = AnnotatedImage(path, has_fractions=True, split=split, position=str(picture))
    file = _labels_file(picture)
    for number, line in numbered_lines(file) if os.path.isfile(file) else ():
        if line.strip():
            image.add(*_object(line, names, f"{file}:{number}", source))
    return image


def _object(
    line: str, names: Mapping[int, str], position: str, source: Path
) -> tuple[str, list[float]]:
    """`class x y width height`, or `class x y x y x y ...` (a polygon), in fractions of a side."""
    with contextlib.suppress(ValueError):
        number, *edges = [float(field) for field in line.split()]
        is_inside = all(-ROUNDING <= edge <= 1 + ROUNDING for edge in edges)
        if number in names and is_inside and len(edges) == 4:
            x, y, width, height = edges
            corners = (x - width / 2, y - height / 2), (x + width / 2, y + height / 2)
            return names[int(number)], around(corners)
        if number in names and is_inside and len(edges) >= 6:
            return names[int(number)], around(zip(edges[::2], edges[1::2], strict=True))
    raise UserError(
        f"{position}: {line!r:.80}: expected the number of one of the {len(names)} classes of "
        f"{source}, then x y width height or the points of a polygon, in fractions of the image, "
        "0 to 1"
    )


def _pictures(place: Path) -> list[Path]:
    """The images of a folder, or of a list of paths."""
    if os.path.isdir(place):
        return images_in(place)
    listed = [Path(line.strip()) for _, line in numbered_lines(place) if line.strip()]
    return [path if path.is_absolute() else place.parent / path for path in listed]


def _resolved(roots: Sequence[Path], place: str, file: Path, split: str) -> Path:
    """A path of `data.yaml`; exporters write `../train/images` for what lies beside the file."""
    candidates = [root / one for root in roots for one in (place, place.removeprefix("../"))]
    for candidate in candidates:
        if os.path.exists(candidate):  # unlike pathlib's, also false for a name that is too long
            return candidate
    raise UserError(
        f"{file}: {split}: {candidates[0]}: no such folder or list; pass --images with the folder "
        "to which the paths of the file are relative"
    )


def _names(content: Mapping[str, Any], file: Path) -> dict[int, str]:
    names: Any = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    found: dict[int, str] = {}
    with contextlib.suppress(AttributeError, ValueError):
        found = {int(number): str(name).strip() for number, name in names.items()}
    if not found:
        raise UserError(f"{file}: names: expected the classes, as a list or a map from numbers")
    for number, name in found.items():
        if not name or any(name == found[other] for other in found if other < number):
            raise UserError(f"{file}: names[{number}]: duplicate label {name!r}, or none")
    return found


def _text(value: object, name: str, file: Path) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise UserError(f"{file}: {name}: expected a path, found {value!r:.80}")
    return value
