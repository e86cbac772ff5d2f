"""How well the heatmaps find the objects, where their boxes are known.

Shapes: N images, C labels, H x W patches on S x S pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lib.errors import UserError
from lib.manifest import Split
from lib.transforms import open_image


def pointing_accuracy(
    peaks: np.ndarray,
    grid: tuple[int, int],
    split: Split,
    labels: Sequence[str],
    boxes: Mapping[str, Sequence[Mapping[str, Any]]],
) -> float:
    """Share of (image, ground-truth label) pairs with a box whose heatmap points at the object.

    `peaks` (N, C) is the patch, in row-major order, where alpha is largest. Its centre must lie
    within half a patch of one of the label's boxes `[x0, y0, x1, y1]`, which are in pixels of the
    original image and scaled to the square that the model saw. Entries that the split ignores take
    no part. Raises `UserError` where `boxes` knows none of the images.
    """
    hits = pairs = 0
    for row, path in enumerate(split.paths):
        by_label = _boxes_by_label(boxes.get(path, ()))
        present = np.flatnonzero((split.targets[row] == 1) & ~split.ignore[row])
        wanted = [column for column in present if labels[column] in by_label]
        if not wanted:
            continue
        with open_image(path) as image:
            size = image.size
        for column in wanted:
            pairs += 1
            hits += points_at(peaks[row, column], grid, by_label[labels[column]], size)
    if not pairs:
        raise UserError(
            f"boxes.json has no box for any label of the images in {split.name}.txt: spell their "
            "paths as they stand there, or remove boxes.json"
        )
    return hits / pairs


def points_at(
    peak: int, grid: tuple[int, int], boxes: np.ndarray, image_size: tuple[int, int]
) -> bool:
    """Whether the centre of patch `peak` lies within half a patch of one of `boxes` (K, 4).

    Everything is measured in units of the square: `image_size` (width, height) scales the boxes.
    """
    height, width = grid
    center = np.array([(peak % width + 0.5) / width, (peak // width + 0.5) / height])
    half = np.array([0.5 / width, 0.5 / height])
    scaled = boxes / np.array([*image_size, *image_size])
    inside = (scaled[:, :2] - half <= center) & (center <= scaled[:, 2:] + half)
    return bool(inside.all(axis=1).any())


def _boxes_by_label(objects: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    found: dict[str, list] = {}
    for item in objects:
        found.setdefault(item["label"], []).append(item["box"])
    return {label: np.array(boxes, float) for label, boxes in found.items()}
