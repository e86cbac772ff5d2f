"""The random policy: each operation's pixels, its magnitudes, and how often what is drawn."""

import collections

import numpy as np
import PIL
import pytest
from PIL import Image

from lib.data.augment import (
    OPERATIONS,
    POLICY,
    PolicyStep,
    Rectangle,
    apply_operation,
    cut_rectangle,
    draw_policy,
    draw_rectangle,
)
from tests.helpers import goldens

SIGNED = {
    "ShearX ShearY TranslateX TranslateY Color Contrast Brightness Sharpness": True,
    "Rotate Posterize Solarize AutoContrast Equalize Invert": False,
}


def pixels(image):
    return np.asarray(image).astype(int)


def picture(width=40, height=30):
    random = np.random.default_rng(3)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


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


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("ShearX", 0.3 / 9, 0.3),
        ("TranslateY", 150 / 331 / 9, 150 / 331),
        ("Rotate", 30 / 9, 30),
        ("Color", 0.1, 0.9),
        ("Posterize", 8 - 4 / 9, 4),
        ("Solarize", 256 - 256 / 9, 0),
    ],
)
def test_magnitudes(name, first, last):
    operation = OPERATIONS[name]
    assert operation.value(1) == pytest.approx(first)
    assert operation.value(9) == pytest.approx(last)


def test_signs():
    for names, signed in SIGNED.items():
        for name in names.split():
            image = picture()
            results = [
                pixels(apply_operation(image, PolicyStep(name, 9, s, (0, 0)))) for s in (-1, 1)
            ]
            assert (results[0] != results[1]).any() == signed, name


def test_affine_operations_against_a_pixel_twin():
    """Nearest translation, pixel by pixel: what moves out is lost, what comes in is grey 128."""
    image, shift = picture(), 150 / 331 * 5 / 9 * 40
    found = pixels(apply_operation(image, PolicyStep("TranslateX", 5, 1, (0, 0))))
    source = pixels(image)
    for x in range(40):
        column = int(np.floor(x + 0.5 + shift))
        expected = source[:, column] if column < 40 else np.full((30, 3), 128)
        np.testing.assert_array_equal(found[:, x], expected)


def test_rotation_is_counter_clockwise():
    image = Image.new("RGB", (41, 41))
    image.putpixel((40, 20), (255, 255, 255))
    rows, columns = np.nonzero(
        pixels(apply_operation(image, PolicyStep("Rotate", 9, 1, (0, 0)))) == 255
    )[:2]
    assert rows.size and rows.max() < 20 and columns.min() > 25


@pytest.mark.parametrize(("m", "half"), [(1, 1), (4, 4), (5, 5), (9, 10)])
def test_cutout_square(m, half):
    image = Image.new("RGB", (40, 40))
    rows, columns = np.nonzero(
        (
            pixels(apply_operation(image, PolicyStep("Cutout", m, 1, (20, 15)))) == (125, 122, 113)
        ).all(-1)
    )
    assert (columns.min(), columns.max() + 1) == (20 - half, 20 + half)
    assert (rows.min(), rows.max() + 1) == (15 - half, 15 + half)


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
    image = picture()
    before = pixels(image).copy()
    for name in POLICY:
        apply_operation(image, PolicyStep(name, 9, -1, (5, 5)))
    cut_rectangle(image, Rectangle((5, 5), (1, 2, 3)))
    np.testing.assert_array_equal(pixels(image), before)
