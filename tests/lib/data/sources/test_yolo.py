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
    Path("set/data.yaml").write_text("train: images/train\nval: images/val\ntest:\n" + NAMES)


def found(source="set", images=None):
    found, _ = read_source(Path(source), ReadOptions(images=images))
    place_boxes(found, "upright")
    return [(one.split, Path(one.path).name, one.labels, one.objects) for one in found]


def refused():
    with pytest.raises(UserError) as error:
        found()
    return error.value.where


def test_boxes_and_polygons_become_pixels(here, capsys):
    first, second, third = found()
    assert first[:3] == ("train", "0.JPG", ["cat", "hot dog"])
    assert [one["box"] for one in first[3]] == [
        *([50, 0, 150, 100], [0, 0, 100, 50], [10, 5, 30, 15])
    ]
    polygon = {"label": "dog", "box": [20, 20, 100, 60], "difficult": False}
    assert second == ("train", "1.JPG", ["dog"], [polygon])
    assert third == ("val", "2.JPG", [], [])
    assert found("set/data.yaml") == [first, second, third]
    Path("set/labels/train/1.txt").unlink()
    assert found()[1] == ("train", "1.JPG", [], [])
    out = capsys.readouterr().out
    assert "1 images without a .txt file" in out and ": dog\n" in out  # that no image has


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
    Path("set/data.yaml").write_text(text)
    assert found() == expected
    for folder in ("images", "labels", "list.txt"):
        Path("elsewhere", folder).parent.mkdir(exist_ok=True)
        Path("set", folder).rename(Path("elsewhere", folder))
    assert refused() == "set/data.yaml"
    assert found(images=Path("elsewhere", "images" if "path" in text else "")) == expected


def test_splits_that_are_the_same_are_read_once(here):
    for val, test, splits in (("train", "train", []), ("val", "val", ["test"])):
        text = f"train: images/train\nval: images/{val}\ntest: [images/{test}]\n"
        Path("set/data.yaml").write_text(text + NAMES)
        assert [row[0] for row in found()] == ["train", "train", *splits]


@pytest.mark.parametrize(
    "line",
    [
        *("7 0.5 0.5 0.1 0.1", "0.5 0.5 0.5 0.1 0.1", "cat 0.5 0.5 0.1 0.1", "0 50 50 10 10"),
        *("0 nan 0.5 0.1 0.1", "0 0.5 0.5 0.1", "0", "0 0.5 0.5 0.1 0.1 0.2 0.3 0.4"),
    ],
)
def test_bad_lines_are_named(here, line):
    Path("set/labels/train/0.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    assert refused() == "set/labels/train/0.txt:2"


@pytest.mark.parametrize(
    "text",
    [
        *("- a\n", "a: [\n", NAMES, "train: images/train\n", "train: {a: b}\n" + NAMES),
        *("train: images/train\nnames: {x: cat}\n", "train: images/train\nnames: [cat, cat]\n"),
        "train: gone\n" + NAMES,
    ],
)
def test_bad_files_are_named(here, text):
    Path("set/data.yaml").write_text(text)
    assert refused() == "set/data.yaml"
