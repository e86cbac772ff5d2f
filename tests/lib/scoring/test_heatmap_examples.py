"""The images whose heatmaps tell labels apart best and worst."""

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from lib.data.split import Split
from lib.scoring.heatmap_examples import FILE, MOST, choose_examples, load_examples
from lib.scoring.localization import Localization
from tests.helpers.refusals import refused


@pytest.fixture
def choose(tmp_path):
    """Examples of images with x on the left and y on the right, of which `shares` of each map are
    on its label's side; then one with x alone. Those in `ignored` could not be read."""

    def make(shares, ignored=()):
        paths = [str(tmp_path / f"{row}.png") for row in range(len(shares) + 1)]
        for path in paths:
            Image.new("RGB", (80, 40)).save(path)
        targets, ignore = np.ones((len(paths), 2), np.uint8), np.zeros((len(paths), 2), bool)
        targets[-1, 1] = 0
        boxes = [{"label": "x", "box": [0, 0, 40, 40]}, {"label": "y", "box": [40, 0, 80, 40]}]
        known = Split.from_dense("test", paths, targets, ignore), "xy", dict.fromkeys(paths, boxes)
        found = Localization(*known, (1, 2), "upright", ["evidence", "attention"])
        maps = torch.tensor([[[s, 1 - s], [1 - s, s]] for s in (*shares, 1.0)])
        maps = torch.stack([maps, torch.full_like(maps, 0.5)], dim=1)  # (N, M, C, H * W)
        found.measure(np.arange(len(paths)), dict(zip(found.maps, maps.unbind(1), strict=True)))
        ignore[list(ignored)] = True
        rows = {path: grids[:, :, None].numpy() for path, grids in zip(paths, maps, strict=True)}
        return choose_examples(found, ignore, lambda asked: np.stack([rows[one] for one in asked]))

    return make


def rows(examples):
    return [int(example.path.rpartition("/")[2].partition(".")[0]) for example in examples]


def test_the_best_and_the_worst_are_sorted_by_pairs_then_by_mass(choose):
    found = choose([0.6, 0.1, 0.9, 0.5, 0.3, 0.8])
    assert (rows(found.best), rows(found.worst)) == ([2, 5, 0], [1, 4, 3])
    assert found.best[2].discrimination == {"evidence": 1, "attention": 0.5}
    assert found.worst[0].discrimination == {"evidence": 0, "attention": 0.5}
    found = choose([0.6, 0.1, 0.9, 0.5, 0.3, 0.8], ignored=[2])
    assert (rows(found.best), rows(found.worst)) == ([5, 0, 3], [1, 4])


def test_no_more_than_a_page_shows_and_none_without_two_labels(choose):
    found = choose(np.linspace(0, 1, 3 * MOST).tolist())
    assert rows(found.best) == list(range(3 * MOST - 1, 2 * MOST - 1, -1))
    assert rows(found.worst) == list(range(MOST))
    assert choose([]) is None


def test_the_file_holds_boxes_and_heatmaps(choose, tmp_path):
    examples = choose([0.75, 0.25])
    assert load_examples(tmp_path) is None
    file = tmp_path / FILE
    file.write_bytes(msgspec.json.encode(examples))
    found = load_examples(tmp_path)
    assert found == examples and found.exif == "upright"
    assert (rows(found.best), rows(found.worst)) == ([0], [1])
    x, y = found.best[0].labels
    assert (x.label, x.boxes, y.boxes) == ("x", [(0, 0, 0.5, 1)], [(0.5, 0, 1, 1)])
    assert x.grid("evidence").tolist() == [[0.75, 0.25]]
    assert y.heatmaps == {"evidence": [[0.25, 0.75]], "attention": [[0.5, 0.5]]}
    file.write_text('{"best": []}')
    with refused(file):
        load_examples(tmp_path)
