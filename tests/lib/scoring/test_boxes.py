"""Boxes around heatmaps whose answer is known."""

import numpy as np
import pytest

from lib.scoring.boxes import best_overlap, box_around


def test_the_box_of_one_patch_reaches_half_way_to_its_neighbours():
    """Interpolated between the middles of patches, half of the maximum is half a patch away."""
    heatmap = np.zeros((5, 4))
    heatmap[2, 1] = 1
    np.testing.assert_allclose(box_around(heatmap), [0.25, 0.4, 0.5, 0.6], atol=0.03)
    np.testing.assert_allclose(box_around(7 * heatmap + 3), box_around(heatmap))


def test_the_largest_part_counts_not_the_highest():
    heatmap = np.zeros((6, 6))
    heatmap[0, 0] = 1
    heatmap[3:5, 2:5] = 0.8
    x0, y0, x1, y1 = box_around(heatmap)
    assert x0 > 1 / 6 and y0 > 1 / 3 and x1 > 0.75 and y1 > 0.75
    heatmap[3:5, 2:5] = 0.4
    assert box_around(heatmap)[2] < 0.25


def test_parts_that_meet_at_a_corner_are_two():
    heatmap = np.zeros((8, 8))
    heatmap[:3, :3] = heatmap[5:, 5:] = 1
    heatmap[5:, 4] = 1
    x0, y0, *_ = box_around(heatmap)
    assert x0 > 0.4 and y0 > 0.5


def test_a_flat_heatmap_has_the_whole_square():
    for value in (0.0, 0.3):
        np.testing.assert_array_equal(box_around(np.full((3, 5), value)), [0, 0, 1, 1])


def test_a_turned_heatmap_has_the_turned_box():
    heatmap = np.random.default_rng(0).random((4, 6)) ** 6
    x0, y0, x1, y1 = box_around(heatmap)
    np.testing.assert_allclose(box_around(heatmap[:, ::-1]), [1 - x1, y0, 1 - x0, y1], atol=1e-9)
    np.testing.assert_allclose(box_around(heatmap.T), [y0, x0, y1, x1], atol=1e-9)


@pytest.mark.parametrize(
    ("box", "overlap"),
    [
        ([0, 0, 1, 1], 0.25),
        ([0, 0, 0.5, 0.5], 1),
        ([0.25, 0, 0.75, 0.5], 1 / 3),
        ([0.5, 0, 1, 1], 0),
    ],
)
def test_overlap(box, overlap):
    truth = np.array([[0, 0, 0.5, 0.5], [0.9, 0.9, 0.9, 0.9]])
    assert best_overlap(np.array(box, float), truth) == pytest.approx(overlap)
