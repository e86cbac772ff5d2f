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
from lib.data.folder import Split
from lib.data.pictures import read_header
from lib.data.preparation.boxes import leaves
from lib.scoring.boxes import best_overlap, box_around

# what a reader compares with: the same map for all labels, either even, or the mean of the maps of
# an image's labels
EVEN, BLIND = "even", "label-blind"
OF_LABELS = ("pointing_accuracy", "energy_in_box", "box_iou", "corloc")
CORRECT = 0.5  # IoU from which a box counts
OF_PAIRS = ("discrimination", "same_peak")


class Localization:
    """The pairs of a split, and what is found of them, batch by batch, in each of `maps`.

    `of_labels` (M', 4, N, C) holds `OF_LABELS` of each label, `of_pairs` (M', 3, N) the sums of
    `OF_PAIRS` and of the masses' differences over an image's pairs of labels, for `names`: the M
    maps, each label-blind, and the even map. A rank fills the rows of its own images, the others
    are 0. Raises `UserError` if `boxes` has none for any pair.
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
        self.names = (*self.maps, *(f"{name}, {BLIND}" for name in self.maps), EVEN)
        self.boxes: dict[int, dict[int, np.ndarray]] = {}
        for row, path in enumerate(split.paths):
            by_label = _boxes_by_label(boxes.get(path, ()))
            present = np.flatnonzero((split.targets[row] == 1) & ~split.ignore[row]).tolist()
            found = {c: by_label[labels[c]] for c in present if labels[c] in by_label}
            if found:
                self.boxes[row] = found
        if not self.boxes:
            raise UserError(
                f"boxes.json has no box for any label of the images in {split.name}.txt: write "
                "their paths as in that file, or remove boxes.json"
            )
        images, columns = split.targets.shape
        kinds = len(self.names)
        self.of_labels = np.zeros((kinds, len(OF_LABELS), images, columns), np.float32)
        self.of_pairs = np.zeros((kinds, len(OF_PAIRS) + 1, images), np.float32)

    def measure(self, rows: np.ndarray, heatmaps: Mapping[str, Tensor]) -> None:
        """Measure the maps (B, C, H * W) of the images `rows` (B,), by name."""
        kept = [(place, row) for place, row in enumerate(rows.tolist()) if row in self.boxes]
        if not kept:
            return
        places = [(place, column) for place, row in kept for column in self.boxes[row]]
        batch, columns = map(list, zip(*places, strict=True))
        ends = np.cumsum([len(self.boxes[row]) for _, row in kept])[:-1]
        # from the device at once, then image by image
        grids = [heatmaps[name][batch, columns].cpu().double().numpy() for name in self.maps]
        images = zip(*(np.split(grid, ends) for grid in grids), strict=True)
        for (_, row), maps in zip(kept, images, strict=True):
            self._measure_image(row, [map_.reshape(-1, *self.grid) for map_ in maps])

    def _measure_image(self, row: int, maps: Sequence[np.ndarray]) -> None:
        """Measure the maps, each (L, H, W), of one image."""
        columns = list(self.boxes[row])
        boxes = list(self.shares(row).values())
        inside = np.stack([covered(self.grid, one).ravel() for one in boxes])
        blind = [_shares(map_).mean(axis=0, keepdims=True) for map_ in maps]
        even = np.ones((1, *self.grid))
        for index, grids in enumerate((*maps, *blind, even)):  # as in `names`
            around = [box_around(grid) for grid in grids] * (len(columns) // len(grids))
            grids = np.broadcast_to(grids, (len(columns), *self.grid))
            hits = [points_at(grid, truth) for grid, truth in zip(grids, boxes, strict=True)]
            masses = _shares(grids).reshape(len(grids), -1) @ inside.T  # of map, in boxes
            overlaps = np.array([*map(best_overlap, around, boxes)])
            found = np.stack([hits, masses.diagonal(), overlaps, overlaps >= CORRECT], axis=-1)
            self.of_labels[index, :, row, columns] = found
            self.of_pairs[index, :, row] = _compare(masses, grids)

    def shares(self, row: int) -> dict[int, np.ndarray]:
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
        rows = [row for row in self._known(ignore) if len(self.boxes[row]) > 1]
        means = {row: self.of_pairs[0, :, row] / self._pairs(row) for row in rows}
        return sorted(rows, key=lambda row: (-means[row][0], -means[row][-1], row))

    def discrimination(self, row: int) -> dict[str, float]:
        """Of each of `maps`, on one image with two labels or more."""
        sums = self.of_pairs[: len(self.maps), 0, row].astype(float) / self._pairs(row)
        return dict(zip(self.maps, sums.tolist(), strict=True))

    def _pairs(self, row: int) -> int:
        return len(self.boxes[row]) * (len(self.boxes[row]) - 1)

    def _known(self, ignore: np.ndarray) -> list[int]:
        return [row for row in self.boxes if not ignore[row].all()]

    def results(self, ignore: np.ndarray) -> dict[str, dict[str, float]]:
        """Of each of `names`: `OF_LABELS`, the same over images with two labels or more, and
        `OF_PAIRS`; without the images all of whose entries `ignore` (N, C) marks, as those that
        could not be read. Measures of nothing are left out.

        Once the rows of all processes are there.
        """
        rows = self._known(ignore)
        several = [row for row in rows if len(self.boxes[row]) > 1]
        pairs = sum(map(self._pairs, several))
        found: dict[str, dict[str, float]] = {}
        for index, name in enumerate(self.names):
            measured: dict[str, float] = {}
            for kept, ending in ((rows, ""), (several, "_several_labels")):
                labels = [(row, column) for row in kept for column in self.boxes[row]]
                if labels:
                    values = self.of_labels[index][:, *np.array(labels).T].astype(np.float64)
                    means = values.mean(axis=1).tolist()
                    measured |= {f"{n}{ending}": v for n, v in zip(OF_LABELS, means, strict=True)}
            if pairs:
                sums = self.of_pairs[index][: len(OF_PAIRS), several].astype(np.float64).sum(axis=1)
                measured |= dict(zip(OF_PAIRS, (sums / pairs).tolist(), strict=True))
            found[name] = measured
        return found if rows else {}


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


def _shares(maps: np.ndarray) -> np.ndarray:
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
