"""VOC 2007: from official files to the data folder."""

import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data.boxes import read_boxes
from lib.data.folder import DataFolder
from tests.helpers.commands import error_line, error_where, run_here

SOURCE, DATA = Path("datasets/VOC2007"), Path("data/voc2007")
LISTS = SOURCE / "ImageSets" / "Main"
OBJECT = """<object><name>{}</name><difficult>{}</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40.5</ymax></bndbox></object>"""


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in (LISTS, SOURCE / "Annotations", SOURCE / "JPEGImages"):
        folder.mkdir(parents=True)
    images = {
        "000003": [("person", 0), ("Cat", 0), ("person", 1)],
        "000001": [],
        "000002": [("dog", 1), ("tvmonitor", 1), ("tvmonitor", 0)],
    }
    for name, objects in images.items():
        body = "".join(OBJECT.format(*found) for found in objects)
        (SOURCE / "Annotations" / f"{name}.xml").write_text(f"<annotation>{body}</annotation>")
        Image.new("RGB", (50, 60)).save(SOURCE / "JPEGImages" / f"{name}.jpg")
    (LISTS / "trainval.txt").write_text("000003\n000001\n")
    (LISTS / "test.txt").write_text("000002\n")
    return lambda *flags: run_here(monkeypatch, capsys, "scripts/voc2007.py", *flags)


def snapshot():
    assert [path.name for path in Path("data").iterdir()] == ["voc2007"]
    return {path.name: path.read_bytes() for path in DATA.iterdir()}


def test_writes_the_contract(here):
    result = here()
    assert result.code == 0, result.err
    labels = (DATA / "label.txt").read_text().split()
    assert labels == sorted(labels) and len(labels) == 20
    images = "datasets/VOC2007/JPEGImages"
    expected = f"{images}/000003.jpg\tcat,person\n{images}/000001.jpg\t\n"
    assert (DATA / "train.txt").read_text() == expected
    assert (DATA / "test.txt").read_text() == f"{images}/000002.jpg\ttvmonitor\n"
    ignore = np.load(DATA / "ignore.npy")
    assert ignore.shape == (1, 20) and np.flatnonzero(ignore[0]).tolist() == [labels.index("dog")]
    boxes = json.loads((DATA / "boxes.json").read_text())
    dog = {"label": "dog", "box": [1, 2, 30, 40.5], "difficult": True}
    assert boxes[f"{images}/000002.jpg"][0] == dog


def test_the_year_2012(here):
    """The lists train and val; default folders follow the year, given ones win."""
    (LISTS / "trainval.txt").rename(LISTS / "train.txt")
    (LISTS / "test.txt").rename(LISTS / "val.txt")
    (LISTS / "trainval.txt").write_text("000009\n")
    source = SOURCE.rename(SOURCE.with_name("VOC2012"))
    assert here("--year", "2012").code == 0
    images = "datasets/VOC2012/JPEGImages"
    train = Path("data/voc2012/train.txt").read_text()
    assert train == f"{images}/000003.jpg\tcat,person\n{images}/000001.jpg\t\n"
    assert Path("data/voc2012/test.txt").read_text() == f"{images}/000002.jpg\ttvmonitor\n"
    assert np.load("data/voc2012/ignore.npy").sum() == 1
    given = ("--data-dir", source.resolve(), "--save-dir", "data/given")
    assert here("--year", "2012", *given).code == 0
    assert str(source.resolve()) in Path("data/given/train.txt").read_text()
    result = here()
    assert error_where(result) == str(LISTS / "trainval.txt") and "--data-dir" in result.err
    assert error_where(here("--year", "2010")) == "--year"


CAT = f"<annotation>{OBJECT.format('cat', 0)}</annotation>"
WITHOUT_BOX = "<annotation><object><name>cat</name></object></annotation>"
BAD = ("<annotation>", "<html/>", CAT.replace("cat", "wolf"), CAT.replace("40.5", "nan"))


@pytest.mark.parametrize(
    ("file", "text", "where"),
    [
        *(("Annotations/000003.xml", text, None) for text in (*BAD, WITHOUT_BOX)),
        ("ImageSets/Main/test.txt", "", None),
        ("ImageSets/Main/test.txt", "000009\n", "Annotations/000009.xml"),
    ],
)
def test_bad_files_leave_the_previous_output(here, file, text, where):
    here()
    before = snapshot()
    (SOURCE / file).write_text(text)
    assert error_where(here()) == str(SOURCE / (where or file)) and snapshot() == before


def test_real_photographs(tmp_path, monkeypatch, capsys):
    samples = os.environ.get("SAMPLES_DIR")
    if not samples or not (Path(samples) / "VOC2007").is_dir():
        pytest.skip("SAMPLES_DIR is not set to a folder with VOC2007")
    monkeypatch.chdir(tmp_path)
    source = str(Path(samples) / "VOC2007")
    result = run_here(monkeypatch, capsys, "scripts/voc2007.py", "--data-dir", source)
    assert result.code == 0, result.err
    data = DataFolder.open("voc2007")
    train, test = data.split("train"), data.split("test")
    assert train.dense()[0].any(axis=0).all()
    targets, ignore = test.dense()
    assert len(test) and not (targets & ignore).any()
    assert set(read_boxes(data.path)) == {*train.paths, *test.paths}


def test_places_that_cannot_be_written(here):
    Path("data").write_text("a file in the way")
    assert error_where(here()) == "data/voc2007"


@pytest.mark.parametrize("limit", [40, 120])
def test_a_full_disk_leaves_the_previous_output(here, monkeypatch, limit):
    """Files of at most `limit` bytes: the first too long one stops the script."""
    assert here().code == 0
    before = snapshot()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        line = error_line(here("--val", "0.5"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "data/voc2007" in line and snapshot() == before
