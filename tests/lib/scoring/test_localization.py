"""Where heatmaps point, and how much of them lies in boxes, where the answer is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from lib.common.errors import UserError
from lib.data.folder import Split
from lib.data.pictures import read_image
from lib.data.transforms import resize
from lib.scoring.localization import Localization, covered, energy_in, points_at

SIZE = np.array([80, 40, 80, 40])  # of the image: on 4 x 4 patches they are 20 x 10 pixels


def peak(patch, grid=(4, 4)):
    """A heatmap of which most lies in one patch, counted row by row."""
    heatmap = np.full(grid, 0.01, np.float32)
    heatmap.flat[patch] = 1
    return heatmap


@pytest.mark.parametrize(
    ("box", "hit"),
    [
        ([20, 10, 40, 20], True),  # the patch itself: column 1, row 1
        ([40, 20, 60, 30], True),  # touches it within half a patch
        ([41, 20, 60, 30], False),
        ([0, 0, 19, 40], False),
        ([0, 0, 20, 40], True),
    ],
)
def test_half_a_patch_of_room(box, hit):
    """Patch 5 has its centre at (30, 15)."""
    assert points_at(peak(5), np.array([box]) / SIZE) is hit


def test_patches_are_counted_row_by_row():
    """A grid of 2 rows and 4 columns on an 80 x 40 image: patch 2 has its centre at (50, 10)."""
    assert points_at(peak(2, (2, 4)), np.array([[45, 5, 55, 15]]) / SIZE)
    assert not points_at(peak(2, (2, 4)), np.array([[5, 25, 15, 35]]) / SIZE)


def test_any_box_of_the_label_will_do():
    assert points_at(peak(5), np.array([[70, 30, 80, 40], [25, 10, 35, 20]]) / SIZE)


@pytest.mark.parametrize(
    ("boxes", "energy"),
    [
        ([[0, 0, 80, 40]], 1.0),  # all
        ([[0, 0, 40, 20]], 0.1),  # the patch of 1
        ([[40, 0, 80, 20]], 0.2),
        ([[0, 0, 80, 20]], 0.3),  # the upper two
        ([[20, 0, 60, 20]], 0.15),  # half of 1 and half of 2
        ([[60, 30, 80, 40]], 0.1),  # a quarter of 4
        ([[0, 0, 40, 20], [0, 0, 40, 20]], 0.1),  # twice the same
        ([[0, 0, 40, 20], [20, 0, 60, 20]], 0.2),  # overlapping: 1 and half of 2
        ([[0, 0, 40, 20], [40, 20, 80, 40]], 0.5),
        ([[-50, -50, 40, 20]], 0.1),  # reaches out of the image
        ([[10, 10, 10, 30]], 0.0),  # no area
    ],
)
def test_energy_in_boxes(boxes, energy):
    """Masses 0.1, 0.2, 0.3, 0.4 on 2 x 2 patches, in rows; of what is left, half is elsewhere."""
    heatmap = np.array([[0.1, 0.2], [0.3, 0.4]])
    assert energy_in(heatmap, np.array(boxes) / SIZE) == pytest.approx(energy)
    assert energy_in(heatmap / 2, np.array(boxes) / SIZE) == pytest.approx(energy)


def test_energy_of_nothing_is_nothing():
    assert energy_in(np.zeros((2, 2)), np.array([[0, 0, 1, 1]])) == 0


def test_covered_is_counted_point_by_point():
    """Against 60 x 60 points a patch."""
    random = np.random.default_rng(0)
    for grid in ((3, 5), (1, 1), (7, 2)):
        ends = random.uniform(-0.1, 1.1, (6, 2, 2))
        boxes = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1)
        x, y = ((np.arange(60 * side) + 0.5) / (60 * side) for side in grid[::-1])
        inside = np.zeros((len(y), len(x)), bool)
        for x0, y0, x1, y1 in boxes:
            inside |= ((y0 < y) & (y < y1))[:, None] & ((x0 < x) & (x < x1))
        expected = inside.reshape(grid[0], 60, grid[1], 60).mean(axis=(1, 3))
        np.testing.assert_allclose(covered(grid, boxes), expected, atol=0.04)


@pytest.fixture
def split(tmp_path):
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    for path in paths:
        Image.new("RGB", (80, 40)).save(path)
    targets = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0]], np.uint8)
    return Split("test", paths, targets, np.zeros((3, 3), bool))


def boxes_of(split):
    """Label y has no box, label z is no ground truth; difficult boxes count."""
    hit, missed = [20, 10, 40, 20], [60, 30, 80, 40]
    return {
        split.paths[0]: [
            {"label": "x", "box": hit, "difficult": True},
            {"label": "z", "box": missed, "difficult": False},
        ],
        split.paths[2]: [{"label": "x", "box": missed, "difficult": False}],
    }


def test_counts_ground_truth_labels_with_a_box(split):
    """Heatmaps of three labels, all at patch 5: one pair of two hits, of a mass of 1 / 1.15."""
    localization = Localization(split, "xyz", boxes_of(split), (4, 4), "upright")
    heatmaps = torch.from_numpy(np.tile(peak(5).ravel(), (3, 3, 1)))
    localization.measure(np.array([2, 0, 1]), heatmaps)
    found = localization.results(split.ignore)
    assert found["pointing_accuracy"] == 0.5
    assert found["energy_in_box"] == pytest.approx((1 + 0.01) / 1.15 / 2)
    ignore = np.zeros((3, 3), bool)
    ignore[2, 0] = True  # the one that is missed
    assert localization.results(ignore)["pointing_accuracy"] == 1
    assert localization.results(np.ones((3, 3), bool)) == {}


def test_rows_of_several_processes_add_up(split):
    """Each measures its own images; the sum is what one process finds of all."""
    random = np.random.default_rng(0)
    heatmaps = torch.from_numpy(random.random((3, 3, 16)).astype(np.float32))
    known = (split, "xyz", boxes_of(split), (4, 4), "upright")
    whole, *parts = (Localization(*known) for _ in range(3))
    whole.measure(np.arange(3), heatmaps)
    parts[0].measure(np.array([0, 1]), heatmaps[:2])
    parts[1].measure(np.array([2]), heatmaps[2:])
    parts[0].found += parts[1].found
    assert parts[0].results(split.ignore) == whole.results(split.ignore)
    assert 0 < whole.results(split.ignore)["energy_in_box"] < 1


@pytest.mark.parametrize("boxes", [{}, {"other.png": [{"label": "x", "box": [0, 0, 1, 1]}]}])
def test_boxes_of_other_images_are_refused(split, boxes):
    with pytest.raises(UserError, match="boxes.json has no box"):
        Localization(split, "xyz", boxes, (4, 4), "upright")


@pytest.mark.parametrize("exif", ["upright", "stored"])
def test_boxes_on_turned_photographs(tmp_path, exif):
    """Boxes of the upright pictures, and a heatmap that is as bright as the picture it is of."""
    note = Image.Exif()
    note[0x0112] = 6  # to be turned by a quarter
    paths, boxes = [], {}
    for row, column in ((0, 0), (0, 2), (3, 0), (3, 1), (1, 3), (2, 0)):
        picture = Image.new("L", (40, 80))
        box = [10 * column, 20 * row, 10 * column + 10, 20 * row + 20]
        picture.paste(255, box)
        paths.append(str(tmp_path / f"{row}{column}.jpg"))
        picture.transpose(Image.Transpose.ROTATE_90).save(paths[-1], exif=note)
        boxes[paths[-1]] = [{"label": "x", "box": box, "difficult": False}]
    targets = np.ones((len(paths), 1), np.uint8)
    split = Split("test", paths, targets, np.zeros((len(paths), 1), bool))
    localization = Localization(split, "x", boxes, (4, 4), exif)
    heatmaps = [np.asarray(resize(read_image(path, exif), 4))[..., 0] / 255 for path in paths]
    attention = torch.from_numpy(np.stack(heatmaps)).float().view(len(paths), 1, 16)
    localization.measure(np.arange(len(paths)), attention)
    found = localization.results(split.ignore)
    if exif == "upright":
        assert found["pointing_accuracy"] == 1 and found["energy_in_box"] > 0.6
    else:
        assert found["pointing_accuracy"] < 0.2 and found["energy_in_box"] < 0.2
