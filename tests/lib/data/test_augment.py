"""The random policy: each operation's pixels, its magnitudes, and how often what is drawn."""

import collections

import numpy as np
import PIL
from PIL import Image

from lib.data.augment import (
    POLICY,
    PolicyStep,
    Rectangle,
    apply_operation,
    cut_rectangle,
    draw_policy,
    draw_rectangle,
)
from tests.helpers import goldens


def pixels(image):
    return np.asarray(image).astype(int)


def test_parity_augment():
    golden = goldens.arrays("augment")
    image, square = Image.fromarray(golden["image"]), Image.fromarray(golden["square"])
    tolerance = 0 if PIL.__version__.split(".")[0] == "13" else 1
    seen = set()
    for name, expected in golden.items():
        kind, *rest = name.split(".", 2)
        if kind == "rectangle":
            center = tuple(map(int, rest[0].split(",")))
            found = cut_rectangle(square, Rectangle(center, (10, 200, 30)))
        elif kind in POLICY:
            sign, center = 1, (0, 0)
            if kind == "Cutout":
                center = tuple(map(int, rest[1].split(",")))
            elif len(rest) == 2:
                sign = int(rest[1])
            found = apply_operation(image, PolicyStep(kind, int(rest[0]), sign, center))
        else:
            continue
        seen.add(kind)
        assert np.abs(pixels(found) - expected).max() <= tolerance, name
    assert seen == {*POLICY, "rectangle"}


def test_rotation_is_counter_clockwise():
    image = Image.new("RGB", (41, 41))
    image.putpixel((40, 20), (255, 255, 255))
    turned = pixels(apply_operation(image, PolicyStep("Rotate", 9, 1, (0, 0))))
    rows, columns = np.nonzero(turned == 255)[:2]
    assert rows.size and rows.max() < 20 and columns.min() > 25


def test_rectangle_includes_both_ends_and_is_clipped():
    image = Image.new("RGB", (32, 32))
    for center, box in (((16, 16), (8, 8, 24, 24)), ((0, 31), (0, 23, 8, 31))):
        filled = (pixels(cut_rectangle(image, Rectangle(center, (9, 8, 7)))) == (9, 8, 7)).all(-1)
        rows, columns = np.nonzero(filled)
        assert (columns.min(), rows.min(), columns.max(), rows.max()) == box
        assert filled.sum() == (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def chi_square(counts, expected):
    return sum((count - expected) ** 2 / expected for count in counts)


def test_frequencies_of_operations_and_magnitudes():
    """15 operations and 9 magnitudes alike, half of the steps applied (chi-square, p = 0.001)."""
    random = np.random.default_rng(5)
    draws = 15000
    steps = [step for _ in range(draws) for step in draw_policy(random, (20, 10))]
    assert abs(len(steps) - draws) < 3.3 * (2 * draws / 4) ** 0.5
    operations = collections.Counter(step.operation for step in steps)
    magnitudes = collections.Counter(step.magnitude for step in steps)
    assert set(operations) == set(POLICY) and set(magnitudes) == set(range(1, 10))
    assert chi_square(operations.values(), len(steps) / 15) < 36.1
    assert chi_square(magnitudes.values(), len(steps) / 9) < 26.1
    signs = collections.Counter(step.sign for step in steps)
    assert chi_square(signs.values(), len(steps) / 2) < 10.8
    columns = collections.Counter(step.center[0] for step in steps)
    assert chi_square(columns.values(), len(steps) / 20) < 43.8
    assert {step.center[1] for step in steps} == set(range(10))


def test_rectangle_draws_cover_image_and_colors():
    random = np.random.default_rng(6)
    drawn = [draw_rectangle(random, (8, 8)) for _ in range(4000)]
    assert {one.center[0] for one in drawn} == {one.center[1] for one in drawn} == set(range(8))
    channels = np.array([one.color for one in drawn])
    assert channels.min() == 0 and channels.max() == 255
    assert abs(channels.mean() - 127.5) < 3


def test_image_is_not_changed_in_place():
    noise = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    before = pixels(image).copy()
    for name in POLICY:
        apply_operation(image, PolicyStep(name, 9, -1, (5, 5)))
    cut_rectangle(image, Rectangle((5, 5), (1, 2, 3)))
    np.testing.assert_array_equal(pixels(image), before)
