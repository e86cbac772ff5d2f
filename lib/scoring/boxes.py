"""Boxes from heatmaps: weakly supervised localisation, and how well it does.

Boxes `[x0, y0, x1, y1]` are in shares of the square that the model saw.

Shapes: H x W patches, K boxes.
"""

from functools import cache

import numpy as np
import scipy  # its parts are imported where they are used first
import torch
from torchvision.ops import box_iou

FINE = 8  # cells of a patch's side, between whose middles the heatmap is interpolated
SHARE_OF_MAXIMUM = 0.5


def box_around(heatmap: np.ndarray) -> np.ndarray:
    """The box (4,) around the largest connected part of `heatmap` (H, W) that reaches half of its
    maximum, measured from its minimum; the whole square for a flat one."""
    rows, columns = map(_interpolation, heatmap.shape)
    fine = rows @ heatmap.astype(np.float64) @ columns.T
    low, high = fine.min(), fine.max()
    parts, number = scipy.ndimage.label(fine >= low + SHARE_OF_MAXIMUM * (high - low))
    sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    y, x = scipy.ndimage.find_objects(parts)[int(np.argmax(sizes))]
    height, width = fine.shape
    edges = (x.start / width, y.start / height, x.stop / width, y.stop / height)
    return np.array(edges)


@cache
def _interpolation(patches: int) -> np.ndarray:
    """Weights (patches * FINE, patches) that interpolate linearly between patches' middles."""
    middles = (np.arange(patches * FINE) + 0.5) / FINE - 0.5
    distances = np.abs(middles.clip(0, patches - 1)[:, None] - np.arange(patches))
    return (1 - distances).clip(0)


def best_overlap(box: np.ndarray, boxes: np.ndarray) -> float:
    """The largest intersection over union (IoU) of `box` (4,), which has an area, with one of
    `boxes` (K, 4)."""
    return float(box_iou(torch.from_numpy(box[None]), torch.from_numpy(boxes)).max())
