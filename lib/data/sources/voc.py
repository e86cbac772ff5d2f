"""A folder of .xml files in the form of Pascal VOC, one for each image."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lib.common.errors import UserError
from lib.data.lists import check_label
from lib.data.sources.annotations import AnnotatedImage, Row


def is_voc(source: Path) -> bool:
    """Whether `source` is a folder of this form."""
    return source.is_dir() and any(source.glob("*.xml"))


def read_voc(folder: Path, images: Path | None) -> Iterator[Row]:
    """A row for each .xml file, without a split."""
    for file in sorted(folder.glob("*.xml")):
        name = (read_annotation(file).findtext("filename") or "").strip()
        path = (images or folder) / (name or f"{file.stem}.jpg")
        yield Row(annotated(path, read_objects(file)), None, str(file))


def annotated(path: Path, objects: list[dict[str, Any]]) -> AnnotatedImage:
    """An image with the labels of its objects; a label is difficult if all its objects are."""
    labels = {found["label"] for found in objects if not found["difficult"]}
    difficult = {found["label"] for found in objects} - labels
    return AnnotatedImage(path.as_posix(), labels, difficult=difficult, objects=objects)


def read_objects(file: Path, labels: Collection[str] | None = None) -> list[dict[str, Any]]:
    """The objects `{label, box, difficult}` of one annotation file.

    With `labels`, in lower case, the objects' labels become lower case too. Raises `UserError` for
    files of another form, and for labels that are not among `labels`.
    """
    objects = []
    for element in read_annotation(file).iter("object"):
        label = (element.findtext("name") or "").strip()
        if labels is not None:
            label = label.lower()
            if label not in labels:
                raise UserError(f"{file}: {label!r} is not one of the {len(labels)} labels")
        check_label(label, f"{file}: an object's name")
        try:
            box = [
                _number(element.findtext(f"bndbox/{edge}"))
                for edge in ("xmin", "ymin", "xmax", "ymax")
            ]
        except (TypeError, ValueError) as error:
            raise UserError(f"{file}: an object ({label}) without a full box") from error
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        objects.append({"label": label, "box": box, "difficult": difficult})
    return objects


def read_annotation(file: Path) -> ElementTree.Element:
    """The root of an annotation file."""
    try:
        root = ElementTree.parse(file).getroot()
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such annotation") from error
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{file}: not a readable annotation: {error}") from error
    if root.tag != "annotation":
        raise UserError(f"{file}: not an annotation of VOC's form, but a <{root.tag}>")
    return root


def _number(text: str | None) -> int | float:
    value = float(text or "")
    if not math.isfinite(value):
        raise ValueError(text)
    return int(value) if value.is_integer() else value
