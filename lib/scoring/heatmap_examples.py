"""`heatmaps.json`: the test images whose heatmaps tell their labels apart best, and worst.

evaluate.py writes it, reports draw it. Boxes are in shares of the image, as `--exif` reads it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from lib.common.readers import decode_json
from lib.scoring.localization import Localization

FILE = "heatmaps.json"
MOST = 6  # of either kind


class Place(msgspec.Struct):
    """A label of an image: its true boxes (K, 4), and its heatmaps (H, W) by name."""

    label: str
    boxes: list[tuple[float, float, float, float]]
    heatmaps: dict[str, list[list[float]]]

    def grid(self, name: str) -> np.ndarray:
        return np.array(self.heatmaps[name])


class HeatmapExample(msgspec.Struct):
    """An image with several labels, and the discrimination of each kind of heatmap on it."""

    path: str
    discrimination: dict[str, float]
    labels: list[Place]


class HeatmapExamples(msgspec.Struct):
    """The best image first, and the worst one first."""

    exif: str
    best: list[HeatmapExample]
    worst: list[HeatmapExample]


def choose_rows(localization: Localization, ignore: np.ndarray) -> tuple[list[int], list[int]]:
    """The best and the worst rows, of those that can be read; none is among both."""
    ranked = localization.ranked(ignore)
    best = min(MOST, (len(ranked) + 1) // 2)
    worst = min(MOST, len(ranked) - best)
    return ranked[:best], ranked[: len(ranked) - worst - 1 : -1]


def make_examples(
    localization: Localization,
    labels: Sequence[str],
    rows: tuple[Sequence[int], Sequence[int]],
    heatmaps: Mapping[int, np.ndarray],
) -> HeatmapExamples:
    """The examples of the best and the worst `rows`, whose `heatmaps` are (M, C, H, W)."""

    def example(row: int) -> HeatmapExample:
        maps = dict(zip(localization.maps, heatmaps[row], strict=True))
        places = [
            Place(
                labels[column],
                [tuple(box) for box in boxes.tolist()],
                {name: grids[column].tolist() for name, grids in maps.items()},
            )
            for column, boxes in localization.shares(row).items()
        ]
        return HeatmapExample(localization.paths[row], localization.discrimination(row), places)

    best, worst = ([example(row) for row in part] for part in rows)
    return HeatmapExamples(localization.exif, best, worst)


def load_examples(folder: Path) -> HeatmapExamples | None:
    """Read `heatmaps.json` of an experiment folder; None without one. Raises `UserError` if it is
    damaged."""
    file = folder / FILE
    return decode_json(file, HeatmapExamples) if file.is_file() else None
