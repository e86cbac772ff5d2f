"""Annotations in the XML form of Pascal VOC."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lib.common.errors import UserError
from lib.data.lists import check_label


def read_objects(file: Path, labels: Collection[str] | None = None) -> list[dict[str, Any]]:
    """The objects `{label, box, difficult}` of one annotation file.

    Raises `UserError` for files that are no such annotation, and for other labels than `labels`,
    which are in lower case, as the objects' then are.
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
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return int(value) if value.is_integer() else value
