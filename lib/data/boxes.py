"""The boxes of a data folder: reads `boxes.json`, and says whether a box belongs to its picture.

Boxes are `[x0, y0, x1, y1]` in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.common.readers import read_json

TOLERANCE = 1.0  # pixels by which a box may leave its picture: VOC counts from 1


def read_boxes(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Image path -> objects `{label, box, difficult}`; none where there is no `boxes.json`."""
    file = folder / "boxes.json"
    boxes = read_json(file) if file.exists() else {}
    for path, objects in boxes.items():
        if not isinstance(objects, list) or not all(map(_is_object, objects)):
            raise UserError(
                f"{file}: {path}: expected a list of objects with label and box (4 numbers)"
            )
    return boxes


def has_area(box: Sequence[float]) -> bool:
    """Whether a box has width and height."""
    return box[0] < box[2] and box[1] < box[3]


def leaves(box: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether a box leaves its picture, of width and height `size`, by more than `TOLERANCE`."""
    return min(box[:2]) < -TOLERANCE or any(
        edge > side + TOLERANCE for edge, side in zip(box[2:], size, strict=True)
    )


def _is_object(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("label"), str):
        return False
    box = value.get("box")
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(type(edge) in (int, float) and abs(edge) < 1e9 for edge in box)
    )
