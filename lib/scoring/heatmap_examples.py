"""`heatmaps.json`: the test images whose heatmaps tell their labels apart best, and worst.

evaluate.py writes it, reports draw it. Boxes are in shares of the image, as `--exif` reads it.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from lib.common.readers import decode_json
from lib.scoring.localization import Localization

FILE = "heatmaps.json"
MOST = 6  # of either kind


class LabelHeatmaps(msgspec.Struct):
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
    labels: list[LabelHeatmaps]


class HeatmapExamples(msgspec.Struct):
    """The best image first, and the worst one first."""

    exif: str
    best: list[HeatmapExample]
    worst: list[HeatmapExample]


def choose_examples(
    localization: Localization,
    ignore: np.ndarray,
    heatmaps_of: Callable[[list[str]], np.ndarray],
) -> HeatmapExamples | None:
    """The best and the worst of the images with boxes of two labels, without those that `ignore`
    (N, C) marks throughout; none is among both. None if there is no such image.

    `heatmaps_of` gives the heatmaps (B, M, C, H, W) of paths.
    """
    ranked = localization.ranked(ignore)
    best = ranked[: min(MOST, (len(ranked) + 1) // 2)]
    worst = ranked[: len(best) - 1 : -1][:MOST]
    if not ranked:
        return None
    rows = [*best, *worst]
    heatmaps = heatmaps_of([localization.paths[row] for row in rows])
    examples = [
        HeatmapExample(
            localization.paths[row],
            localization.discrimination(row),
            [
                LabelHeatmaps(
                    localization.labels[column],
                    [tuple(box) for box in boxes.tolist()],
                    dict(zip(localization.maps, maps[:, column].tolist(), strict=True)),
                )
                for column, boxes in localization.relative_boxes(row).items()
            ],
        )
        for row, maps in zip(rows, heatmaps, strict=True)
    ]
    return HeatmapExamples(localization.exif, examples[: len(best)], examples[len(best) :])


def load_examples(folder: Path) -> HeatmapExamples | None:
    """Read `heatmaps.json` of an experiment folder; None without one. Raises `UserError` if it is
    damaged."""
    file = folder / FILE
    return decode_json(file, HeatmapExamples) if file.is_file() else None
