"""What inspect_data.py finds in a data folder."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import TINY, error_where, make_data, run_here

FOLDER, IMAGES = Path("data/colors"), Path("data/colors/images")


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path, images=16)
    return lambda *flags: run_here(
        monkeypatch, capsys, "scripts/inspect_data.py", "--data", "colors", *flags
    )


def replace(*pairs):
    """Replace texts in the lists of the data folder."""
    for file in FOLDER.glob("*.txt"):
        text = file.read_text()
        for old, new in pairs:
            text = text.replace(old, new)
        file.write_text(text)


def test_a_clean_folder(here):
    result = here()
    assert result.code == 0, result.err
    assert "train: 16 images" in result.out and result.out.count(": none") == 11
    for name in ("labels.png", "cooccurrence.png"):
        with Image.open(FOLDER / name) as picture:
            assert min(picture.size) > 200
    rows = [line.split() for line in result.out.splitlines() if line.startswith("red")]
    lines = (FOLDER / "train.txt").read_text().splitlines()
    assert int(rows[0][1]) == sum("red" in line.split("\t")[1] for line in lines)


def test_what_is_wrong_is_named(here):
    shutil.copy(IMAGES / "train0.png", IMAGES / "test1.png")
    shutil.copy(IMAGES / "train2.png", IMAGES / "train3.png")
    (IMAGES / "val4.png").write_bytes(b"no picture")
    with open(FOLDER / "label.txt", "a") as file:
        file.write("never\n")
    out = here("--save-dir", "pictures").out
    leak = f"train: {IMAGES}/train0.png = test: {IMAGES}/test1.png"
    assert f"several splits (leakage): 1\n  {leak}\n" in out
    copy = f"train: {IMAGES}/train2.png = train: {IMAGES}/train3.png"
    assert f"twice in a split: 1\n  {copy}\n" in out
    assert f"unreadable files: 1\n  {IMAGES}/val4.png: " in out
    assert "labels without positives in train: 1\n  never" in out
    assert Path("pictures/labels.png").is_file() and not (FOLDER / "labels.png").exists()


def test_the_same_path_twice(here, monkeypatch, capsys):
    """In one list or in two, which training says too."""
    lines = (FOLDER / "train.txt").read_text().splitlines(keepends=True)
    with open(FOLDER / "train.txt", "a") as file:
        file.write(f"./{lines[3]}")
    with open(FOLDER / "test.txt", "a") as file:
        file.writelines([lines[0], lines[1].replace("images/", "images/../images/")])
    out = here().out
    for path, other in (("train0", "train0"), ("train1", "../images/train1")):
        assert f"  train: {IMAGES}/{path}.png = test: {IMAGES}/{other}.png\n" in out
    assert "several splits (leakage): 2\n" in out and "twice in a split: 1\n" in out
    flags = (*TINY, *"--data colors --batch-size 8 --max-epochs 1 --limit 8".split())
    result = run_here(monkeypatch, capsys, "train.py", *flags)
    notes = [line for line in result.out.splitlines() if "note: data/colors" in line]
    assert len(notes) == 2 and "2 images of train.txt are in test.txt" in notes[0]
    assert "train.txt: 1 lines" in notes[1]


def test_many_copies_make_a_short_line(here):
    content = (IMAGES / "train0.png").read_bytes()
    for file in IMAGES.iterdir():
        file.write_bytes(content)
    lines = here().out.splitlines()
    (found,) = [line for line in lines if f"train: {IMAGES}/train0.png = " in line]
    assert found.endswith(" and 45 more") and len(found) < 200


def test_versions_of_one_picture_in_several_splits(here):
    for name, number in (("train", 0), ("test", 1)):
        old, new = f"{name}{number}.png", f"cow_jpg.rf.{name}9.png"
        (IMAGES / old).rename(IMAGES / new)
        replace((f"/{old}", f"/{new}"))
        (IMAGES / name).mkdir()  # a mere number is listed apart
        (IMAGES / f"{name}5.png").rename(IMAGES / name / "5.png")
        replace((f"/{name}5.png", f"/{name}/5.png"))
    out = here().out
    assert "the same image in several splits (leakage): none" in out
    pair = f"train: {IMAGES}/cow_jpg.rf.train9.png = test: {IMAGES}/cow_jpg.rf.test9.png"
    assert f"if versions of one image): 1\n  {pair}\n" in out
    pair = f"train: {IMAGES}/train/5.png = test: {IMAGES}/test/5.png"
    assert f"if no list counts anew): 1\n  {pair}\n" in out


def test_odd_labels_turned_pictures_and_boxes_outside(here):
    replace(("red", "['red']"), ("green", "7"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(IMAGES / "train1.png", exif=exif)
    path = f"{IMAGES}/train1.png"
    boxes = [
        {"label": "7", "box": box, "difficult": False}
        for box in ([0, 0, 20, 30], [0, 0, 30, 20], [10000, 40000, 10001, 40001], [5, 5, 4, 9])
    ]
    (FOLDER / "boxes.json").write_text(json.dumps({path: boxes}))
    out = here().out
    assert "odd labels: 2\n" in out and "\"['red']\" (1 label)" in out
    assert f"images with an EXIF turn (read as upright): 1\n  {path}" in out
    assert "boxes outside their images: 3\n" in out
    assert f"  {path}: 7 [0, 0, 30, 20] in 20 x 30" in out
    assert f"  {path}: 7 [0, 0, 20, 30] in 30 x 20" in here("--exif", "stored").out


@pytest.mark.filterwarnings("error")
def test_labels_are_text_and_train_may_be_missing(here):
    """No formulas, and no warning for letters that the font lacks."""
    (FOLDER / "train.txt").unlink()
    replace(("red", r"a$\frac$b"), ("green", "犬"))
    result = here()
    assert result.code == 0 and "train" not in result.out.split("figures:")[0]
    assert (FOLDER / "labels.png").is_file()


def test_folders_that_are_not_there(here):
    shutil.rmtree(IMAGES)
    assert error_where(here()) == f"{IMAGES}/train0.png"
    shutil.rmtree("data")
    assert error_where(here()) == "data/colors"
