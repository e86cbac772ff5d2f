"""How scripts/custom.py finds the image files that annotations name, and which boxes fit them."""

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.annotations import IMAGES, ROWS, coco, picture, pictures, split, table, write

MISSING = "{} images are missing or cannot be read"


def test_files_are_found_by_similar_names(custom):
    picture("photos/B1.JPG", 30)
    picture(f"photos/{unicodedata.normalize('NFD', 'café')}.jpg", 31)
    rows = f"b1.jpg,cat\n{unicodedata.normalize('NFC', 'café')}.jpg,dog\nc,cat\nd.jpg,dog\n"
    result = custom("own.csv", *IMAGES, content=f"path,labels\n{rows}")
    assert len(result.labels) == 4
    assert result.has("2 image files") and result.has("1 image files", "'c' is")
    picture("photos/b1.Jpg", 32)  # no longer unique
    line = custom("own.csv", *IMAGES).line
    assert MISSING.format("1 of 4") + ": photos/b1.jpg" in line and "--skip-missing" in line


def test_a_missing_file_has_a_hint(custom):
    picture("photos/holiday_2023_001.jpg", 20)
    rows = "path,labels\nholiday_2024_001.jpg,cat\na.jpg,dog\n"
    line = custom("own.csv", *IMAGES, content=rows).line
    assert "'holiday_2023_001.jpg' for 'holiday_2024_001.jpg'" in line
    line = custom("own.csv", content=rows).line  # no folder given: it can help
    assert MISSING.format("2 of 2") in line and "--images" in line


@pytest.mark.parametrize("prefix", ["data\\", "data/x/", "/home/me/set/", ".\\photos\\"])
def test_folders_that_are_not_there(custom, prefix):
    content = coco()
    for image in content["images"]:
        image["file_name"] = prefix + image["file_name"]
    result = custom("own.json", *IMAGES, content=content)
    assert result.labels == ROWS and result.has("4 image files", "--images")
    picture("photos/other/a.jpg")  # no longer unique, unless the listed folder is that of --images
    result = custom("own.json", *IMAGES)
    if "photos" in prefix:
        assert result.labels == ROWS and "photos/a.jpg\tcat,dog" in split("train") + split("test")
    else:
        assert result.where == MISSING.format("1 of 4")


def test_the_nearest_folders_decide(custom):
    """Those that a source has on another machine are left out, as few of them as possible."""
    names = ("p1/front", "p2/front", "p2/side", "old/p2/front", "old/back/front")
    pictures("set", *names)
    rows = "".join(f"CheXpert/v1/{name}.jpg,{name[:2]}\n" for name in names[:3])
    result = custom("own.csv", "--images", "set", content=f"Path,labels\n{rows}")
    lines = {*split("train"), *split("test")}
    assert lines == {f"set/{name}.jpg\t{name[:2]}" for name in names[:3]}, result.err
    assert result.has("3 image files")


def test_a_listed_folder_that_is_there_is_believed(custom):
    """Another picture of the same name elsewhere is another picture."""
    pictures("set", "cats/1", "cats/2", "dogs/3")
    rows = "path,labels\ncats/1.jpg,cat\ncats/2.jpg,cat\ncats/3.jpg,cat\n"
    line = custom("own.csv", "--images", "set", content=rows).line
    assert MISSING.format("1 of 3") + ": set/cats/3.jpg" in line


@pytest.mark.parametrize(
    ("listed", "file"),
    [("7", "000007"), ("7.0", "7"), ("00000007.0", "7"), ("1a2b3c4d-x.jpg", "sub/x")],
)
def test_numbers_and_uploads(custom, listed, file):
    picture(f"set/{file}.jpg")
    picture("set/8.jpg", 3)
    rows = f"id,labels\n{listed},cat\n8,dog\n"
    result = custom("own.csv", "--images", "set", "--test-share", "0.5", content=rows)
    assert result.labels[f"{Path(file).name}.jpg"] == "cat"


def test_names_that_two_files_have(custom):
    pictures("set", "7", "007", "008", "0008", "a/0", "b/0", "a/1", "b/1")
    content = "id,labels\n7.0,cat\n007,dog\n8,cat\n"
    line = custom("own.csv", "--images", "set", content=content).line
    assert MISSING.format("1 of 3") + ": set/8" in line
    result = custom("own.csv", "--images", "set", content="path,labels\n0.jpg,cat\n1.jpg,dog\n")
    assert result.where == MISSING.format("2 of 2")
    assert result.has("2 names", "'0.jpg' at set/a/0.jpg and set/b/0.jpg")


@pytest.mark.parametrize("ending", ["png", ".png", ".PNG"])
def test_endings_with_and_without_a_point(custom, ending):
    for number, name in enumerate(("p.jpg", "p.png", "q.png", "r.png")):
        picture(f"set/{name}", number)
    rows = "id,labels\np,cat\nq,dog\nr,cat\n"
    result = custom("own.csv", "--images", "set", "--extension", ending, content=rows)
    assert set(result.labels) == {"p.png", "q.png", "r.png"}


def test_missing_test_images_name_the_flag(custom):
    write("test.csv", "path,labels\nx.jpg,cat\ny.jpg,dog\n")
    flags = (*IMAGES, "--test", "test.csv")
    line = custom("own.csv", *flags, content=table("cat", "dog", "cat")).line
    assert "--test-images" in line
    pictures("other", *"xy")
    assert custom("own.csv", *flags, "--test-images", "other").code == 0
    Path("photos/a.jpg").unlink()
    Path("photos/a.jpg").mkdir()  # a folder is no image
    assert custom("own.csv", *flags).where == MISSING.format("3 of 5")


def test_boxes_of_the_other_orientation(custom):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 40)).save("photos/a.jpg", exif=exif)  # upright: 40 x 50
    content = coco()
    for image in content["images"]:
        image |= {"width": 40, "height": 50}
    assert custom("own.json", *IMAGES, content=content).code == 0
    content["images"][0] |= {"width": 50, "height": 40}
    line = custom("own.json", *IMAGES, content=content).line
    assert "error: photos/a.jpg: " in line and "--exif stored" in line
    assert custom("own.json", *IMAGES, "--exif", "stored").code == 0
    content["images"][0] |= {"width": 40, "height": 50}
    line = custom("own.json", *IMAGES, "--exif", "stored", content=content).line
    assert "error: photos/a.jpg: " in line and "--exif upright" in line
    content["images"][1] |= {"width": 50, "height": 40}  # no turn explains it
    assert custom("own.json", *IMAGES, content=content).where == "photos/b.jpg"
    content["images"][1] |= {"width": 80, "height": 100}
    assert custom("own.json", *IMAGES, content=content).has("1 images", "photos/b.jpg")
