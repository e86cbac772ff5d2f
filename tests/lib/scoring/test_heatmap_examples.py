"""The images whose heatmaps tell labels apart best and worst."""

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from lib.common.errors import UserError
from lib.data.folder import Split
from lib.scoring import heatmap_examples
from lib.scoring.heatmap_examples import MOST, choose_rows, load_examples, make_examples
from lib.scoring.localization import Localization

LEFT, RIGHT = [0, 0, 40, 40], [40, 0, 80, 40]


def measured(tmp_path, shares):
    """Images with x on the left and y on the right; `shares` of each map are on its label's side.
    The last image has x alone."""
    paths = [str(tmp_path / f"{row}.png") for row in range(len(shares) + 1)]
    for path in paths:
        Image.new("RGB", (80, 40)).save(path)
    targets = np.ones((len(paths), 2), np.uint8)
    targets[-1, 1] = 0
    split = Split("test", paths, targets, np.zeros_like(targets, bool))
    boxes = {path: [{"label": "x", "box": LEFT}, {"label": "y", "box": RIGHT}] for path in paths}
    maps = torch.tensor([[[s, 1 - s], [1 - s, s]] for s in (*shares, 1.0)])
    localization = Localization(split, "xy", boxes, (1, 2), "upright", ["evidence", "attention"])
    heatmaps = {"evidence": maps, "attention": torch.full_like(maps, 0.5)}
    localization.measure(np.arange(len(paths)), heatmaps)
    return (
        localization,
        split,
        np.stack([one.numpy()[:, :, None] for one in heatmaps.values()], axis=1),
    )


def test_the_best_and_the_worst_are_sorted_by_pairs_then_by_mass(tmp_path):
    localization, split, _ = measured(tmp_path, [0.6, 0.1, 0.9, 0.5, 0.3, 0.8])
    assert localization.ranked(split.ignore) == [2, 5, 0, 3, 4, 1]
    assert choose_rows(localization, split.ignore) == ([2, 5, 0], [1, 4, 3])
    assert localization.discrimination(0) == {"evidence": 1, "attention": 0.5}
    assert localization.discrimination(1) == {"evidence": 0, "attention": 0.5}
    split.ignore[2] = True  # as an image that could not be read
    assert choose_rows(localization, split.ignore) == ([5, 0, 3], [1, 4])


def test_no_more_than_a_page_shows(tmp_path):
    localization, split, _ = measured(tmp_path, np.linspace(0, 1, 3 * MOST).tolist())
    best, worst = choose_rows(localization, split.ignore)
    assert best == list(range(3 * MOST - 1, 2 * MOST - 1, -1)) and worst == list(range(MOST))


def test_nothing_to_choose_from(tmp_path):
    localization, split, _ = measured(tmp_path, [])
    assert choose_rows(localization, split.ignore) == ([], [])


def test_the_file_holds_boxes_and_heatmaps(tmp_path):
    localization, split, heatmaps = measured(tmp_path, [0.75, 0.25])
    rows = choose_rows(localization, split.ignore)
    examples = make_examples(localization, "xy", rows, dict(enumerate(heatmaps)))
    assert load_examples(tmp_path) is None
    file = tmp_path / heatmap_examples.FILE
    file.write_bytes(msgspec.json.encode(examples))
    found = load_examples(tmp_path)
    assert found == examples and found.exif == "upright"
    (best,), (worst,) = found.best, found.worst
    assert (best.path, worst.path) == (split.paths[0], split.paths[1])
    assert best.discrimination == {"evidence": 1, "attention": 0.5}
    x, y = best.labels
    assert (x.label, x.boxes, y.boxes) == ("x", [(0, 0, 0.5, 1)], [(0.5, 0, 1, 1)])
    assert x.grid("evidence").tolist() == [[0.75, 0.25]]
    assert y.heatmaps == {"evidence": [[0.25, 0.75]], "attention": [[0.5, 0.5]]}
    file.write_text('{"best": []}')
    with pytest.raises(UserError, match=r"heatmaps.json: not the JSON that is expected"):
        load_examples(tmp_path)
