"""How well heatmaps locate objects whose boxes are known, and whether they tell labels apart.

Over (image, ground-truth label) pairs with a box: pointing accuracy, energy in box, and of the box
around a heatmap (`lib/scoring/boxes.py`) its best IoU with one of the label's boxes, and CorLoc,
how often that is at least 0.5. Over ordered pairs (a, b) of such labels of one image:
discrimination, whether a's map has more of its mass inside a's boxes than b's map has (equal masses
count half; chance is 0.5), and same peak, whether both maps peak at the same patch.

Boxes `[x0, y0, x1, y1]` are in pixels of the image as `--exif` reads it, and scaled to the square
that the model saw; difficult ones count too.

Shapes: N images, C labels, H x W patches, K boxes, L labels of an image that have a box, M maps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lib.common.errors import UserError
from lib.data.boxes import leaves
from lib.data.pictures import read_header
from lib.data.split import Split
from lib.scoring.boxes import best_overlap, box_around

# baselines, the same for all labels of an image: the uniform map, and the mean of their maps
UNIFORM, MEAN = "even", "label-blind"
OF_LABELS = ("pointing_accuracy", "energy_in_box", "box_iou", "corloc")
CORRECT = 0.5  # IoU from which a box counts


class Localization:
    """Measures the heatmaps of a split, batch by batch, against the boxes of its labels.

    `measured` holds for each image with boxes, by row, `OF_LABELS` of its labels (M', 4, L), and
    what `_compare` sums over its pairs of labels (M', 3), for `names`: the M maps, the mean over
    the labels of each, and the uniform map. Each rank measures its own images. Raises `UserError`
    if no label of an image has a box.
    """

    def __init__(
        self,
        split: Split,
        labels: Sequence[str],
        boxes: Mapping[str, Sequence[Mapping[str, Any]]],
        grid: tuple[int, int],
        exif: str,
        maps: Sequence[str],
    ) -> None:
        self.paths, self.labels, self.grid = split.paths, list(labels), grid
        self.exif, self.maps = exif, tuple(maps)
        self.names = (*self.maps, *(f"{name}, {MEAN}" for name in self.maps), UNIFORM)
        self.measured: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.boxes: dict[int, dict[int, np.ndarray]] = {}
        for row, path in enumerate(split.paths):
            by_label = _boxes_by_label(boxes.get(path, ()))
            present = split.labels_of(row).tolist() if by_label else ()
            found = {c: by_label[labels[c]] for c in present if labels[c] in by_label}
            if found:
                self.boxes[row] = found
        if not self.boxes:
            raise UserError(
                f"boxes.json has no box for any label of the images in {split.name}.txt: write "
                "their paths as in that file, or remove boxes.json"
            )

    def measure(self, rows: np.ndarray, heatmaps: Mapping[str, Tensor]) -> None:
        """Measure the maps (B, C, H * W) of the images `rows` (B,), by name."""
        for place, row in enumerate(rows.tolist()):
            if row in self.boxes:
                columns = list(self.boxes[row])
                maps = [heatmaps[name][place, columns].cpu().double() for name in self.maps]
                grids = [map_.numpy().reshape(-1, *self.grid) for map_ in maps]
                self.measured[row] = self._measure_image(row, grids)

    def _measure_image(self, row: int, maps: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """What `measured` holds of the maps, each (L, H, W), of one image."""
        boxes = list(self.relative_boxes(row).values())
        inside = np.stack([covered(self.grid, one).ravel() for one in boxes])
        means = [_normalized(map_).mean(axis=0, keepdims=True) for map_ in maps]
        of_labels, of_pairs = [], []
        for grids in (*maps, *means, np.ones((1, *self.grid))):  # as in `names`
            around = [box_around(grid) for grid in grids] * (len(boxes) // len(grids))
            grids = np.broadcast_to(grids, (len(boxes), *self.grid))
            hits = [points_at(grid, truth) for grid, truth in zip(grids, boxes, strict=True)]
            masses = _normalized(grids).reshape(len(grids), -1) @ inside.T  # of map, in boxes
            overlaps = np.array([*map(best_overlap, around, boxes)])
            of_labels.append([hits, masses.diagonal(), overlaps, overlaps >= CORRECT])
            of_pairs.append(_compare(masses, grids))
        return np.array(of_labels, np.float32), np.array(of_pairs, np.float32)

    def relative_boxes(self, row: int) -> dict[int, np.ndarray]:
        """The boxes (K, 4) of an image by label, in shares of its width and height. Raises
        `UserError` for boxes that lie outside, as those of another size of the picture, or that
        end before they begin."""
        width, height = size = read_header(self.paths[row], self.exif).size
        for column, boxes in self.boxes[row].items():
            for box in boxes.tolist():
                if leaves(box, size) or box[0] > box[2] or box[1] > box[3]:
                    raise UserError(
                        f"boxes.json: {self.paths[row]}: the box {box} of {self.labels[column]} is "
                        f"not inside the image, which has {width} x {height} pixels (--exif "
                        f"{self.exif}): give boxes as [x0, y0, x1, y1] in these pixels, or remove "
                        "boxes.json"
                    )
        return {column: boxes / np.array(size * 2) for column, boxes in self.boxes[row].items()}

    def ranked(self, ignore: np.ndarray) -> list[int]:
        """The rows with two labels or more, without those that `results` leaves out, from the best
        to the worst: by the discrimination of the first map, then by the difference of masses."""
        _, rows = self._measured_rows(ignore)
        means = {row: self.measured[row][1][0] / self._pairs(row) for row in rows}
        return sorted(rows, key=lambda row: (-means[row][0], -means[row][-1], row))

    def discrimination(self, row: int) -> dict[str, float]:
        """Of each of `maps`, on one image with two labels or more."""
        sums = self.measured[row][1][: len(self.maps), 0].astype(float) / self._pairs(row)
        return dict(zip(self.maps, sums.tolist(), strict=True))

    def results(self, ignore: np.ndarray) -> dict[str, dict[str, float]]:
        """Of each of `names`: `OF_LABELS`, the same over images with two labels or more, and
        discrimination and same peak; without the images all of whose entries `ignore` (N, C) marks,
        as those that could not be read. Measures of nothing are left out.

        Once `measured` has the rows of all ranks.
        """
        rows, several = self._measured_rows(ignore)
        found: dict[str, dict[str, float]] = {name: {} for name in self.names if rows}
        for kept, ending in ((rows, ""), (several, "_several_labels")):
            if kept:
                of_labels = np.concatenate([self.measured[row][0] for row in kept], axis=2)
                averages = of_labels.astype(np.float64).mean(axis=2).tolist()
                for measures, means in zip(found.values(), averages, strict=True):
                    measures |= {f"{n}{ending}": v for n, v in zip(OF_LABELS, means, strict=True)}
        if several:
            of_pairs = np.array([self.measured[row][1] for row in several], np.float64).sum(axis=0)
            shares = of_pairs / sum(map(self._pairs, several))
            for measures, (wins, same, _) in zip(found.values(), shares.tolist(), strict=True):
                measures |= {"discrimination": wins, "same_peak": same}
        return found

    def _measured_rows(self, ignore: np.ndarray) -> tuple[list[int], list[int]]:
        """The images with a known label, and those of them with boxes of two labels or more."""
        rows = [row for row in sorted(self.measured) if not ignore[row].all()]
        return rows, [row for row in rows if len(self.boxes[row]) > 1]

    def _pairs(self, row: int) -> int:
        return len(self.boxes[row]) * (len(self.boxes[row]) - 1)


def _compare(masses: np.ndarray, maps: np.ndarray) -> tuple[float, float, float]:
    """Sums over ordered pairs (a, b) of labels: of those in which a's map, against b's, has more of
    its mass in a's boxes, of those with the same peak, and of these masses' differences. `masses`
    (L, L) of map, in boxes; `maps` (L, H, W)."""
    own = masses.diagonal()
    wins = (own > masses) + 0.5 * (own == masses)
    peaks = maps.reshape(len(maps), -1).argmax(axis=1)
    others = ~np.eye(len(own), dtype=bool)
    same = peaks[:, None] == peaks
    wins, same, margins = (float(each[others].sum()) for each in (wins, same, own - masses))
    return wins, same, margins


def _normalized(maps: np.ndarray) -> np.ndarray:
    """Maps (L, H, W) that sum to 1, or are 0."""
    totals = maps.sum(axis=(1, 2), keepdims=True)
    return np.divide(maps, totals, out=np.zeros_like(maps), where=totals > 0)


def points_at(heatmap: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether `heatmap` (H, W) is largest at one of `boxes` (K, 4), given in shares of the square.

    The centre of the patch where it is largest (the first one, row by row) must lie within half a
    patch of a box.
    """
    height, width = heatmap.shape
    row, column = divmod(int(np.argmax(heatmap)), width)
    center = np.array([(column + 0.5) / width, (row + 0.5) / height])
    half = np.array([0.5 / width, 0.5 / height])
    inside = (boxes[:, :2] - half <= center) & (center <= boxes[:, 2:] + half)
    return bool(inside.all(axis=1).any())


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
