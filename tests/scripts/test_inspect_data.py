"""What inspect_data.py finds in a data folder."""

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
        "the same picture in several splits (leakage): none",
        "the same picture twice in a split: none",
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
    assert result.code == 0 and "train" not in result.out.split("pictures:")[0]
    assert Path("data/colors/labels.png").is_file()
