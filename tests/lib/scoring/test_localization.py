"""Where heatmaps point, and how much of them lies in boxes, where the answer is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data.augment import resize
from lib.data.dataset import read_image
from lib.data.split import Split
from lib.scoring.localization import Localization, covered, points_at
from tests.helpers.refusals import refused
from tests.helpers.twins import literal_energy, literal_localization

SIZE = np.array([80, 40, 80, 40])  # of the image: on 4 x 4 patches they are 20 x 10 pixels


def peak(patch, grid=(4, 4)):
    """A heatmap of which most lies in one patch, counted row by row."""
    heatmap = np.full(grid, 0.01, np.float32)
    heatmap.flat[patch] = 1
    return heatmap


@pytest.mark.parametrize(
    ("patch", "grid", "boxes", "hit"),
    [
        (5, (4, 4), [[20, 10, 40, 20]], True),  # the patch itself, with its centre at (30, 15)
        (5, (4, 4), [[40, 20, 60, 30]], True),  # touches it within half a patch
        (5, (4, 4), [[41, 20, 60, 30]], False),
        (5, (4, 4), [[0, 0, 19, 40]], False),
        (5, (4, 4), [[0, 0, 20, 40]], True),
        (5, (4, 4), [[70, 30, 80, 40], [25, 10, 35, 20]], True),  # one of several
        (2, (2, 4), [[45, 5, 55, 15]], True),  # row by row: its centre is at (50, 10)
        (2, (2, 4), [[5, 25, 15, 35]], False),
    ],
)
def test_half_a_patch_of_room(patch, grid, boxes, hit):
    assert points_at(peak(patch, grid), np.array(boxes) / SIZE) is hit


@pytest.mark.parametrize(
    ("boxes", "shares"),
    [
        ([[0, 0, 80, 40]], [1, 1, 1, 1]),
        ([[0, 0, 40, 20]], [1, 0, 0, 0]),
        ([[0, 0, 80, 20]], [1, 1, 0, 0]),
        ([[20, 0, 60, 20]], [0.5, 0.5, 0, 0]),
        ([[60, 30, 80, 40]], [0, 0, 0, 0.25]),
        ([[0, 0, 40, 20], [0, 0, 40, 20]], [1, 0, 0, 0]),  # twice the same
        ([[0, 0, 40, 20], [20, 0, 60, 20]], [1, 0.5, 0, 0]),  # overlapping
        ([[-50, -50, 40, 20]], [1, 0, 0, 0]),  # reaches out of the image
        ([[10, 10, 10, 30]], [0, 0, 0, 0]),  # no area
    ],
)
def test_shares_of_patches_in_boxes(boxes, shares):
    """2 x 2 patches of 40 x 20 pixels; against the twin too."""
    boxes, heatmap = np.array(boxes) / SIZE, np.array([[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_allclose(covered((2, 2), boxes).ravel(), shares, atol=1e-12)
    assert literal_energy(heatmap, boxes) == pytest.approx(heatmap.ravel() @ shares)


@pytest.fixture
def split(tmp_path):
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    for path in paths:
        Image.new("RGB", (80, 40)).save(path)
    targets = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0]], np.uint8)
    return Split.from_dense("test", paths, targets, np.zeros((3, 3), bool))


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


def measured(split, boxes, maps, grid=(4, 4)):
    """The measures of `maps`, each (N, C, H * W), by name."""
    first, second = (
        Localization(split, "xyz", boxes, grid, "upright", list(maps)) for _ in range(2)
    )
    rows = np.random.default_rng(0).permutation(len(split))
    for one, own in ((first, rows[:2]), (second, rows[2:])):  # as on two ranks
        one.measure(own, {name: heatmaps[own] for name, heatmaps in maps.items()})
    first.measured |= second.measured
    return first.results(split.dense()[1])


def test_counts_ground_truth_labels_with_a_box(split):
    """Heatmaps of three labels, all at patch 5: one pair of two hits, of a mass of 1 / 1.15."""
    localization = Localization(split, "xyz", boxes_of(split), (4, 4), "upright", ["attention"])
    heatmaps = torch.from_numpy(np.tile(peak(5).ravel(), (3, 3, 1)))
    localization.measure(np.array([2, 0, 1]), {"attention": heatmaps})
    found = localization.results(split.dense()[1])
    assert list(found) == ["attention", "attention, label-blind", "even"]
    assert found["attention"] == {
        "pointing_accuracy": 0.5,
        "energy_in_box": pytest.approx((1 + 0.01) / 1.15 / 2),
        "box_iou": 0.5,  # the patch is the box
        "corloc": 0.5,
    }  # no image has two labels with boxes
    assert found["even"]["energy_in_box"] == pytest.approx(1 / 16)
    ignore = np.zeros((3, 3), bool)
    ignore[2] = True  # the one that is missed could not be read
    assert localization.results(ignore)["attention"]["pointing_accuracy"] == 1
    assert localization.results(np.ones((3, 3), bool)) == {}


def random_scenes(seed, tmp_path):
    """Images of random sizes with random boxes, labels and maps."""
    random = np.random.default_rng(seed)
    paths, boxes = [], {}
    targets = (random.random((6, 3)) < 0.7).astype(np.uint8)
    for row in range(6):
        width, height = random.integers(20, 90, 2).tolist()
        paths.append(str(tmp_path / f"{seed}-{row}.png"))
        Image.new("RGB", (width, height)).save(paths[-1])
        boxes[paths[-1]] = []
        for label in random.choice(list("xyz"), 5):
            x0, x1 = sorted(random.uniform(0, width, 2))
            y0, y1 = sorted(random.uniform(0, height, 2))
            boxes[paths[-1]].append({"label": label, "box": [x0, y0, x1, y1], "difficult": False})
    ignore = random.random((6, 3)) < 0.2
    maps = {
        name: torch.from_numpy(random.random((6, 3, 12)) ** 4).float()
        for name in ("evidence", "attention")
    }
    return Split.from_dense("test", paths, targets, ignore), boxes, maps


@pytest.mark.parametrize("seed", range(4))
def test_all_measures_match_the_literal_twin(seed, tmp_path):
    split, boxes, maps = random_scenes(seed, tmp_path)
    found, even = measured(split, boxes, maps, (3, 4)), torch.ones(6, 3, 12)
    for name, heatmaps in maps.items():
        expected = literal_localization(split, "xyz", boxes, heatmaps.numpy(), (3, 4))
        assert found[name] == pytest.approx(expected, abs=1e-6)
        blind = mean_maps(split, boxes, heatmaps)
        for measures, one in ((found[f"{name}, label-blind"], blind), (found["even"], even)):
            expected = literal_localization(split, "xyz", boxes, one.numpy(), (3, 4))
            assert measures == pytest.approx(expected | {"discrimination": 0.5}, abs=1e-6)


def mean_maps(split, boxes, heatmaps):
    """For each label of an image, the mean of the maps of those that count, each of sum 1."""
    shares = heatmaps / heatmaps.sum(dim=-1, keepdim=True)
    targets, ignore = split.dense()
    known = (targets == 1) & ~ignore
    for row, path in enumerate(split.paths):
        boxed = {item["label"] for item in boxes[path]}
        columns = [c for c, label in enumerate("xyz") if known[row, c] and label in boxed]
        if columns:
            shares[row] = shares[row, columns].mean(dim=0)
    return shares


def test_maps_of_their_labels_discriminate_and_swapped_ones_do_not(split):
    """Two labels, each with a box of its own, and maps that lie in them."""
    left, right = [0, 0, 20, 10], [60, 30, 80, 40]
    boxes = {
        split.paths[0]: [{"label": "x", "box": left, "difficult": False},
                         {"label": "y", "box": right, "difficult": False}]
    }  # fmt: skip
    maps = torch.zeros(3, 3, 16)
    maps[0, 0], maps[0, 1] = (torch.from_numpy(peak(patch).ravel()) for patch in (0, 15))
    good = measured(split, boxes, {"evidence": maps})["evidence"]
    assert (good["discrimination"], good["same_peak"], good["pointing_accuracy"]) == (1, 0, 1)
    assert good["pointing_accuracy_several_labels"] == 1
    swapped = measured(split, boxes, {"evidence": maps[:, [1, 0, 2]]})["evidence"]
    assert (swapped["discrimination"], swapped["same_peak"]) == (0, 0)
    assert swapped["pointing_accuracy"] == 0
    maps[0, 1] = maps[0, 0]
    same = measured(split, boxes, {"evidence": maps})["evidence"]
    assert (same["discrimination"], same["same_peak"]) == (0.5, 1)


@pytest.mark.parametrize(
    ("box", "fits"),
    [
        ([9, 9, 9, 30], True),  # without an area: a miss
        ([0, 0, 81, 41], True),  # a pixel beyond the edge is rounding; VOC counts from 1
        ([0, 0, 160, 80], False),  # of another size of the picture
        ([50, 20, 20, 30], False),  # as [x, y, width, height] would be
    ],
)
def test_boxes_that_do_not_fit_the_image_are_refused(split, box, fits):
    boxes, maps = {split.paths[0]: [{"label": "x", "box": box}]}, torch.zeros(3, 3, 16)
    if fits:
        measured(split, boxes, {"evidence": maps})
    else:
        with refused("boxes.json", split.paths[0], "80 x 40"):
            measured(split, boxes, {"evidence": maps})


@pytest.mark.parametrize("boxes", [{}, {"other.png": [{"label": "x", "box": [0, 0, 1, 1]}]}])
def test_boxes_of_other_images_are_refused(split, boxes):
    with refused(None, "boxes.json", "test.txt"):
        Localization(split, "xyz", boxes, (4, 4), "upright", ["evidence"])


@pytest.mark.parametrize("exif", ["upright", "stored"])
def test_boxes_on_turned_photographs(tmp_path, exif):
    """Boxes of the upright pictures, and a heatmap that is as bright as the picture it is of."""
    note = Image.Exif()
    note[0x0112] = 6  # to be turned by a quarter
    paths, boxes = [], {}
    for row, column in ((3, 0), (0, 2), (0, 0), (3, 1), (1, 3), (2, 0)):
        picture = Image.new("L", (40, 80))
        box = [10 * column, 20 * row, 10 * column + 10, 20 * row + 20]
        picture.paste(255, box)
        paths.append(str(tmp_path / f"{row}{column}.jpg"))
        picture.transpose(Image.Transpose.ROTATE_90).save(paths[-1], exif=note)
        boxes[paths[-1]] = [{"label": "x", "box": box, "difficult": False}]
    targets = np.ones((len(paths), 1), np.uint8)
    split = Split.from_dense("test", paths, targets, np.zeros((len(paths), 1), bool))
    localization = Localization(split, "x", boxes, (4, 4), exif, ["attention"])
    heatmaps = [np.asarray(resize(read_image(path, exif), 4))[..., 0] / 255 for path in paths]
    attention = torch.from_numpy(np.stack(heatmaps)).float().view(len(paths), 1, 16)
    if exif == "stored":
        with refused("boxes.json", paths[0], "80 x 40", "--exif stored"):
            localization.measure(np.arange(len(paths)), {"attention": attention})
        return
    localization.measure(np.arange(len(paths)), {"attention": attention})
    found = localization.results(split.dense()[1])["attention"]
    assert found["pointing_accuracy"] == 1 and found["energy_in_box"] > 0.6
