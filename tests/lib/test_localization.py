"""Pointing accuracy on pictures whose answer is known."""

import numpy as np
import pytest
from PIL import Image

from lib.errors import UserError
from lib.localization import pointing_accuracy, points_at
from lib.manifest import Split


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
    """A 4 x 4 grid on an 80 x 40 image: patches of 20 x 10; patch 5 has its centre at (30, 15)."""
    assert points_at(5, (4, 4), np.array([box], float), (80, 40)) is hit


def test_patches_are_counted_row_by_row():
    """A grid of 2 rows and 4 columns on an 80 x 40 image: patch 2 has its centre at (50, 10)."""
    assert points_at(2, (2, 4), np.array([[45, 5, 55, 15]], float), (80, 40))
    assert not points_at(2, (2, 4), np.array([[5, 25, 15, 35]], float), (80, 40))


def test_any_box_of_the_label_will_do():
    boxes = np.array([[70, 30, 80, 40], [25, 10, 35, 20]], float)
    assert points_at(5, (4, 4), boxes, (80, 40))


@pytest.fixture
def split(tmp_path):
    paths = [str(tmp_path / f"{name}.png") for name in "ab"]
    for path in paths:
        Image.new("RGB", (80, 40)).save(path)
    targets = np.array([[1, 1, 0], [1, 0, 0]], np.uint8)
    return Split("test", paths, targets, np.zeros((2, 3), bool))


def test_counts_ground_truth_labels_with_a_box(split):
    """Label 1 has no box, label 2 is no ground truth; difficult boxes count."""
    hit, missed = [20, 10, 40, 20], [60, 30, 80, 40]
    boxes = {
        split.paths[0]: [
            {"label": "x", "box": hit, "difficult": True},
            {"label": "z", "box": missed, "difficult": False},
        ],
        split.paths[1]: [{"label": "x", "box": missed, "difficult": False}],
    }
    peaks = np.full((2, 3), 5)
    assert pointing_accuracy(peaks, (4, 4), split, "xyz", boxes) == 0.5
    split.ignore[1, 0] = True  # the one that is missed
    assert pointing_accuracy(peaks, (4, 4), split, "xyz", boxes) == 1


def test_boxes_of_other_images_are_refused(split):
    boxes = {"other.png": [{"label": "x", "box": [0, 0, 1, 1], "difficult": False}]}
    with pytest.raises(UserError, match="boxes.json has no box"):
        pointing_accuracy(np.zeros((2, 3), int), (4, 4), split, "xyz", boxes)
