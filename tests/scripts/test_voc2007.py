"""VOC 2007: from official files to the data folder."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.commands import ROOT, error_line, run, run_here

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40.5</ymax></bndbox></object>"""


def write_voc(folder: Path, images: dict[str, list[tuple[str, int]]], trainval, test):
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    for name, objects in images.items():
        body = "".join(OBJECT.format(name=label, difficult=flag) for label, flag in objects)
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{body}</annotation>")
        Image.new("RGB", (50, 60)).save(folder / "JPEGImages" / f"{name}.jpg")
    (folder / "ImageSets/Main/trainval.txt").write_text("".join(f"{n}\n" for n in trainval))
    (folder / "ImageSets/Main/test.txt").write_text("".join(f"{n}\n" for n in test))


@pytest.fixture
def voc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "datasets" / "VOC2007"
    images = {
        "000003": [("person", 0), ("Cat", 0), ("person", 1)],
        "000001": [],
        "000002": [("dog", 1), ("tvmonitor", 0)],
    }
    write_voc(folder, images, ["000003", "000001"], ["000002"])
    return folder


def test_writes_the_contract(voc, monkeypatch, capsys):
    result = run_here(monkeypatch, capsys, "scripts/voc2007.py")
    assert result.code == 0, result.err
    data = Path("data/voc2007")
    labels = (data / "label.txt").read_text().split()
    assert labels == sorted(labels) and len(labels) == 20
    images = "datasets/VOC2007/JPEGImages"
    expected = f"{images}/000003.jpg\tcat,person\n{images}/000001.jpg\t\n"
    assert (data / "train.txt").read_text() == expected
    assert (data / "test.txt").read_text() == f"{images}/000002.jpg\ttvmonitor\n"
    ignore = np.load(data / "ignore.npy")
    assert ignore.shape == (1, 20) and np.flatnonzero(ignore[0]).tolist() == [labels.index("dog")]
    boxes = json.loads((data / "boxes.json").read_text())
    assert boxes[f"{images}/000002.jpg"][0] == {
        "label": "dog",
        "box": [1, 2, 30, 40.5],
        "difficult": True,
    }


def test_the_year_2012(voc, monkeypatch, capsys):
    """The lists train and val; default folders follow the year, given ones win."""
    voc.rename(voc.parent / "VOC2012")
    lists = voc.parent / "VOC2012" / "ImageSets" / "Main"
    (lists / "trainval.txt").rename(lists / "train.txt")
    (lists / "test.txt").rename(lists / "val.txt")
    (lists / "trainval.txt").write_text("000009\n")
    command = ("scripts/voc2007.py", "--year", "2012")
    result = run_here(monkeypatch, capsys, *command)
    assert result.code == 0 and "wrote data/voc2012" in result.out, result.err
    images = "datasets/VOC2012/JPEGImages"
    train = Path("data/voc2012/train.txt").read_text()
    assert train == f"{images}/000003.jpg\tcat,person\n{images}/000001.jpg\t\n"
    assert Path("data/voc2012/test.txt").read_text() == f"{images}/000002.jpg\ttvmonitor\n"
    assert np.load("data/voc2012/ignore.npy").sum() == 1
    given = ("--data-dir", voc.parent / "VOC2012", "--save-dir", "data/given")
    assert run_here(monkeypatch, capsys, *command, *given).code == 0
    assert str(voc.parent) in Path("data/given/train.txt").read_text()
    line = error_line(run_here(monkeypatch, capsys, "scripts/voc2007.py"))
    assert "datasets/VOC2007/ImageSets/Main/trainval.txt: no such file" in line
    line = error_line(run_here(monkeypatch, capsys, *command[:2], "2010"))
    assert "--year: invalid choice: '2010'" in line


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("Annotations/000003.xml", "<annotation>", "000003.xml: not a readable annotation"),
        ("Annotations/000003.xml", "<html/>", "000003.xml: not an annotation of VOC's form, but a"),
        (
            "Annotations/000003.xml",
            f"<annotation>{OBJECT.format(name='wolf', difficult=0)}</annotation>",
            "'wolf' is not one",
        ),
        (
            "Annotations/000003.xml",
            "<annotation><object><name>cat</name></object></annotation>",
            "no full box",
        ),
        (
            "Annotations/000003.xml",
            f"<annotation>{OBJECT.format(name='cat', difficult=0)}</annotation>".replace(
                "40.5", "nan"
            ),
            "a full box",
        ),
        ("ImageSets/Main/test.txt", "", "test.txt: an empty list"),
        ("ImageSets/Main/test.txt", "000009\n", "000009.xml: no such annotation"),
    ],
)
def test_bad_files_leave_the_former_output(voc, monkeypatch, capsys, file, text, says):
    run_here(monkeypatch, capsys, "scripts/voc2007.py")
    before = {path.name: path.read_bytes() for path in Path("data/voc2007").iterdir()}
    (voc / file).write_text(text)
    assert says in error_line(run_here(monkeypatch, capsys, "scripts/voc2007.py"))
    assert {path.name: path.read_bytes() for path in Path("data/voc2007").iterdir()} == before
    assert [path.name for path in Path("data").iterdir()] == ["voc2007"]


def test_missing_folder_says_what_to_pass(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = error_line(run_here(monkeypatch, capsys, "scripts/voc2007.py", "--data-dir", "gone"))
    assert "gone/ImageSets/Main/trainval.txt: no such file" in line and "--data-dir" in line


def test_real_photographs(tmp_path, monkeypatch, capsys):
    samples = os.environ.get("SAMPLES_DIR")
    if not samples or not (Path(samples) / "VOC2007").is_dir():
        pytest.skip("SAMPLES_DIR is not set to a folder with VOC2007")
    monkeypatch.chdir(tmp_path)
    source = str(Path(samples) / "VOC2007")
    result = run_here(monkeypatch, capsys, "scripts/voc2007.py", "--data-dir", source)
    assert result.code == 0, result.err
    from lib.data.folder import DataFolder

    data = DataFolder.open("voc2007")
    train, test = data.split("train"), data.split("test")
    assert train.targets.any(axis=0).all() and len(test) and not (test.targets & test.ignore).any()
    assert set(data.boxes()) == {*train.paths, *test.paths}


def test_places_that_cannot_be_written(voc, monkeypatch, capsys):
    Path("data").write_text("a file in the way")
    line = error_line(run_here(monkeypatch, capsys, "scripts/voc2007.py"))
    assert "data/voc2007: cannot be written" in line


@pytest.mark.parametrize("limit", [40, 120])
def test_a_full_disk_leaves_the_former_output(voc, limit):
    """Files of at most `limit` bytes: the first too long one stops the script."""
    assert run("scripts/voc2007.py", cwd=Path.cwd()).code == 0
    before = {path.name: path.read_bytes() for path in Path("data/voc2007").iterdir()}
    command = f"import resource, runpy, signal, sys; sys.argv = ['voc2007.py', '--val', '0.5']; \
signal.signal(signal.SIGXFSZ, signal.SIG_IGN); \
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); \
runpy.run_path({str(ROOT / 'scripts' / 'voc2007.py')!r}, run_name='__main__')"
    line = error_line(run("-c", command, cwd=Path.cwd()))
    assert "cannot be written: File too large" in line
    assert before == {path.name: path.read_bytes() for path in Path("data/voc2007").iterdir()}
    assert [path.name for path in Path("data").iterdir()] == ["voc2007"]
