"""How well heatmaps locate objects whose boxes are known: pointing accuracy, energy in box.

Both measures are means over (image, ground-truth label) pairs with a box. Boxes `[x0, y0, x1, y1]`
are in pixels of the image as `--exif` reads it, and scaled to the square that the model saw;
difficult ones count too.

Shapes: N images, C labels, H x W patches, K boxes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lib.common.errors import UserError
from lib.data.folder import Split
from lib.data.pictures import read_header


class Localization:
    """The pairs of a split, and what is found of them, batch by batch.

    `found` (2, N, C) holds hit and energy of each pair; a rank fills the rows of its own images,
    the others are 0. Raises `UserError` if `boxes` has none for any pair.
    """

    def __init__(
        self,
        split: Split,
        labels: Sequence[str],
        boxes: Mapping[str, Sequence[Mapping[str, Any]]],
        grid: tuple[int, int],
        exif: str,
    ) -> None:
        self.paths, self.grid, self.exif = split.paths, grid, exif
        self.pairs: dict[int, dict[int, np.ndarray]] = {}
        for row, path in enumerate(split.paths):
            by_label = _boxes_by_label(boxes.get(path, ()))
            present = np.flatnonzero(split.targets[row]).tolist()
            pairs = {c: by_label[labels[c]] for c in present if labels[c] in by_label}
            if pairs:
                self.pairs[row] = pairs
        if not self.pairs:
            raise UserError(
                f"boxes.json has no box for any label of the images in {split.name}.txt: write "
                "their paths as in that file, or remove boxes.json"
            )
        self.found = np.zeros((2, *split.targets.shape), np.float32)

    def measure(self, rows: np.ndarray, attention: Tensor) -> None:
        """Measure the heatmaps (B, C, H * W) of the images `rows` (B,)."""
        places = [
            (place, row, column)
            for place, row in enumerate(rows.tolist())
            for column in self.pairs.get(row, ())
        ]
        if not places:
            return
        batch, _, columns = zip(*places, strict=True)
        grids = attention[list(batch), list(columns)].float().cpu().numpy()
        sizes: dict[int, tuple[int, int]] = {}
        for (_, row, column), grid in zip(places, grids, strict=True):
            if row not in sizes:
                sizes[row] = read_header(self.paths[row], self.exif).size
            boxes = self.pairs[row][column] / np.array([*sizes[row], *sizes[row]])
            grid = grid.reshape(self.grid)
            self.found[:, row, column] = points_at(grid, boxes), energy_in(grid, boxes)

    def results(self, ignore: np.ndarray) -> dict[str, float]:
        """`pointing_accuracy` and `energy_in_box`: shares of hits, and mean energy, of the pairs
        that `ignore` (N, C) does not mark; nothing where it marks all.

        Once the rows of all processes are in `found`.
        """
        pairs = [
            (row, column)
            for row, columns in self.pairs.items()
            for column in columns
            if not ignore[row, column]
        ]
        if not pairs:
            return {}
        rows, columns = zip(*pairs, strict=True)
        hits, energies = self.found[:, rows, columns].astype(np.float64).mean(axis=1)
        return {"pointing_accuracy": float(hits), "energy_in_box": float(energies)}


def points_at(heatmap: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether `heatmap` (H, W) is largest at one of `boxes` (K, 4), given in shares of the square.

    The centre of the patch where it is largest (the first one, row by row) must lie within half a
    patch of a box.
    """
    height, width = heatmap.shape
    row, column = divmod(int(heatmap.argmax()), width)
    center = np.array([(column + 0.5) / width, (row + 0.5) / height])
    half = np.array([0.5 / width, 0.5 / height])
    inside = (boxes[:, :2] - half <= center) & (center <= boxes[:, 2:] + half)
    return bool(inside.all(axis=1).any())


def energy_in(heatmap: np.ndarray, boxes: np.ndarray) -> float:
    """The share of the mass of `heatmap` (H, W) that lies inside `boxes` (K, 4), in [0, 1].

    A patch counts by the share of its area that the boxes cover together; boxes are in shares of
    the square, and what lies outside it covers nothing. The mass is the sum over the patches, also
    where a class token has taken a part of the attention; without any mass the share is 0.
    """
    total = float(heatmap.sum())
    if total <= 0:
        return 0.0
    return float((heatmap * covered(heatmap.shape, boxes)).sum()) / total


def covered(grid: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """Share of each patch's area that lies in one of `boxes` (K, 4) -> (H, W)."""
    rows, ys = _stripes(grid[0], boxes[:, 1::2])
    columns, xs = _stripes(grid[1], boxes[:, ::2])
    # between two edges of boxes next to each other, all is in a box or all is out
    inside = (ys.T.astype(np.float64) @ xs) > 0
    return rows @ inside @ columns.T


def _stripes(patches: int, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One axis cut at the edges of patches and boxes, whose `sides` are (K, 2).

    Gives the share of each patch that a stripe takes, (patches, stripes), and whether a stripe
    lies in a box, (K, stripes).
    """
    edges = np.concatenate([np.arange(patches + 1) / patches, sides.clip(0, 1).ravel()])
    edges.sort()  # where two are the same, the stripe between them takes nothing
    middles, widths = (edges[1:] + edges[:-1]) / 2, edges[1:] - edges[:-1]
    of_patch = (middles * patches).astype(int) == np.arange(patches)[:, None]
    in_box = (sides[:, :1] < middles) & (middles < sides[:, 1:])
    return of_patch * widths * patches, in_box


def _boxes_by_label(objects: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    found: dict[str, list] = {}
    for item in objects:
        found.setdefault(item["label"], []).append(item["box"])
    return {label: np.array(boxes, float) for label, boxes in found.items()}
