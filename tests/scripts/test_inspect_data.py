"""What inspect_data.py finds in a data folder."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import error_line, make_data, run_here


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path, images=16)
    return lambda *flags: run_here(
        monkeypatch, capsys, "scripts/inspect_data.py", "--data", "colors", *flags
    )


def test_a_clean_folder(here):
    result = here()
    assert result.code == 0, result.err
    for line in (
        "train: 16 images",
        "labels without positives in train: none",
        "the same image in several splits (leakage): none",
        "the same image twice in a split: none",
        "unreadable files: none",
    ):
        assert line in result.out
    for name in ("labels.png", "cooccurrence.png"):
        with Image.open(f"data/colors/{name}") as picture:
            assert min(picture.size) > 200
    rows = [line.split() for line in result.out.splitlines() if line.startswith("red")]
    lines = Path("data/colors/train.txt").read_text().splitlines()
    assert int(rows[0][1]) == sum("red" in line.split("\t")[1] for line in lines)


def test_what_is_wrong_is_named(here):
    images = Path("data/colors/images")
    shutil.copy(images / "train0.png", images / "test1.png")
    shutil.copy(images / "train2.png", images / "train3.png")
    (images / "val4.png").write_bytes(b"no picture")
    with open("data/colors/label.txt", "a") as file:
        file.write("never\n")
    out = here("--save-dir", "pictures").out
    folder = "data/colors/images"
    assert "(leakage): 1\n  train: " in out
    assert f"train: {folder}/train0.png = test: {folder}/test1.png" in out
    assert f"twice in a split: 1\n  train: {folder}/train2.png = train: {folder}/train3.png" in out
    assert f"unreadable files: 1\n  {folder}/val4.png: not a readable image" in out
    assert "labels without positives in train: 1\n  never" in out
    assert Path("pictures/labels.png").is_file() and not Path("data/colors/labels.png").exists()


def test_folders_that_are_not_there(here):
    shutil.rmtree("data/colors/images")
    assert "no such image" in error_line(here())
    Path("data/colors/train.txt").unlink()
    shutil.rmtree("data")
    assert "no such data folder" in error_line(here())


@pytest.mark.filterwarnings("error")
def test_labels_are_text_and_train_may_be_missing(here):
    """No formulas, and no warning for letters that the font lacks."""
    Path("data/colors/train.txt").unlink()
    for file in Path("data/colors").glob("*.txt"):
        file.write_text(file.read_text().replace("red", r"a$\frac$b").replace("green", "犬"))
    result = here()
    assert result.code == 0 and "train" not in result.out.split("figures:")[0]
    assert Path("data/colors/labels.png").is_file()


def test_versions_of_one_picture_in_several_splits(here):
    images = Path("data/colors/images")
    for name, number in (("train", 0), ("test", 1)):
        lines = Path(f"data/colors/{name}.txt").read_text()
        old, new = f"{name}{number}.png", f"cow_jpg.rf.{name}9.png"
        (images / old).rename(images / new)
        Path(f"data/colors/{name}.txt").write_text(lines.replace(old, new))
    out = here().out
    assert "the same image in several splits (leakage): none" in out
    assert (
        "the same file name in several splits (leakage, if versions of one image): 1\n"
        "  train: data/colors/images/cow_jpg.rf.train9.png = test: data/" in out
    )


def test_many_copies_make_a_short_line(here):
    images = Path("data/colors/images")
    for file in images.iterdir():
        shutil.copy(images / "train0.png", file) if file.name != "train0.png" else None
    lines = here().out.splitlines()
    found = [line for line in lines if "train: data/colors/images/train0.png = " in line]
    assert len(found) == 1 and found[0].endswith(" more") and len(found[0]) < 200


def test_odd_labels_turned_pictures_and_boxes_outside(here):
    for name in ("label", "train", "val", "test"):
        file = Path(f"data/colors/{name}.txt")
        file.write_text(file.read_text().replace("red", "['red']").replace("green", "7"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save("data/colors/images/train1.png", exif=exif)
    path = "data/colors/images/train1.png"
    boxes = [
        {"label": "7", "box": box, "difficult": False}
        for box in ([0, 0, 20, 30], [0, 0, 30, 20], [10000, 40000, 10001, 40001], [5, 5, 4, 9])
    ]
    Path("data/colors/boxes.json").write_text(json.dumps({path: boxes}))
    out = here().out
    assert "odd labels: 2\n  labels with brackets, braces or quotes: \"['red']\" (1 label)" in out
    assert f"images with an EXIF turn (read as upright): 1\n  {path}" in out
    assert "boxes outside their images: 3\n" in out
    assert f"  {path}: 7 [0, 0, 30, 20] in 20 x 30" in out
    out = here("--exif", "stored").out
    assert f"  {path}: 7 [0, 0, 20, 30] in 30 x 20" in out
