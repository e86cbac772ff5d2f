"""YOLO data sets, as several programs export them."""

from pathlib import Path

import pytest
from PIL import Image

from lib.common.errors import UserError
from lib.data.preparation.boxes import place_boxes
from lib.data.sources import read_source
from lib.data.sources.annotations import ReadOptions

NAMES = "names: [cat, dog, hot dog]\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A data set of two train images and a validation image, in the usual layout."""
    monkeypatch.chdir(tmp_path)
    labels = {
        "train/0": "0 0.5 0.5 0.5 1\n2 0.25 0.25 0.5 0.5\n0 0.1 0.1 0.1 0.1\n",
        "train/1": "1 0.1 0.2 0.5 0.2 0.5 0.6\n",  # a polygon
        "val/2": "\n",
    }
    for name, text in labels.items():
        image, label = Path("set/images") / f"{name}.JPG", Path("set/labels") / f"{name}.txt"
        for file in (image, label):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100)).save(image)
        label.write_text(text)
    write("train: images/train\nval: images/val\ntest:\n" + NAMES)
    return tmp_path


def write(text):
    Path("set/data.yaml").write_text(text)


def found(source="set", images=None):
    found, _ = read_source(Path(source), ReadOptions(images=images))
    place_boxes(found, "upright")
    return [(one.split, Path(one.path).name, one.labels, one.objects) for one in found]


def test_boxes_and_polygons_become_pixels(here):
    first, second, third = found()
    assert first[:3] == ("train", "0.JPG", ["cat", "hot dog"])
    assert [one["box"] for one in first[3]][:2] == [[50, 0, 150, 100], [0, 0, 100, 50]]
    assert second == (
        *("train", "1.JPG", ["dog"]),
        [{"label": "dog", "box": [20, 20, 100, 60], "difficult": False}],
    )
    assert third == ("val", "2.JPG", [], [])
    assert found("set/data.yaml") == found()


@pytest.mark.parametrize(
    "text",
    [
        "path: images\ntrain: train\nval: val\nnames:\n  0: cat\n  1: dog\n  2: hot dog\n",
        "train: ../images/train\nvalid: ../images/val\n" + NAMES,  # what lies beside the file
        "train: [images/train]\nval: [images/val]\nnc: 3\n" + NAMES,
        "train: list.txt\nval: images/val  # a comment\n" + NAMES,
    ],
)
def test_variants_of_the_same_set(here, text):
    expected = found()
    Path("set/list.txt").write_text("./images/train/0.JPG\nimages/train/1.JPG\n\n")
    write(text)
    assert found() == expected


def test_the_folder_of_the_images_can_be_given(here):
    expected = found()
    Path("elsewhere").mkdir()
    Path("set/images").rename("elsewhere/images")
    Path("set/labels").rename("elsewhere/labels")
    with pytest.raises(UserError, match="set/images/train: no such folder or list; pass --i"):
        found()
    assert found(images=Path("elsewhere")) == expected


def test_an_image_without_a_file_has_no_labels(here):
    Path("set/labels/train/1.txt").unlink()
    assert found()[1] == ("train", "1.JPG", [], [])


@pytest.mark.parametrize(
    "line, says",
    [
        ("7 0.5 0.5 0.1 0.1", "labels/train/0.txt:2: class 7, but set/data.yaml names 3 classes"),
        ("0.5 0.5 0.5 0.1 0.1", ":2: class 0.5, but"),
        ("cat 0.5 0.5 0.1 0.1", ":2: expected a class and numbers, found 'cat 0.5"),
        ("0 50 50 10 10", ":2: coordinates must be fractions of the image, 0 to 1"),
        ("0 nan 0.5 0.1 0.1", ":2: coordinates must be"),
        ("0 0.5 0.5 0.1", ":2: expected 4 numbers .a box. or 6 or more .a polygon. .* found 3"),
        ("0", "found 0"),
    ],
)
def test_bad_lines_are_named(here, line, says):
    Path("set/labels/train/0.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(UserError, match=says):
        found()


@pytest.mark.parametrize(
    "text, says",
    [
        ("- a\n", "set/data.yaml: expected a YOLO data set"),
        ("a: [\n", "set/data.yaml: not YAML: "),
        ("train: images/train\n", "expected names, a list or a map"),
        ("train: images/train\nnames: {x: cat}\n", "names: expected numbers of classes"),
        ("train: images/train\nnames: [cat, cat]\n", r"names\[1\]: duplicate label 'cat'"),
        (NAMES, "a YOLO data set without train, val or test"),
        ("train: {a: b}\n" + NAMES, "train: expected a path, found"),
        ("train: gone\n" + NAMES, "train: set/gone: no such folder or list"),
    ],
)
def test_bad_files_are_named(here, text, says):
    write(text)
    with pytest.raises(UserError, match=says):
        found()
