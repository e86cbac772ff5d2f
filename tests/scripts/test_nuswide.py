"""NUS-WIDE: from official files to the data folder."""

from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import error_line, run_here

SOURCE = Path("datasets/NUS-WIDE")
IMAGES = ["actor\\0002_2.jpg", "zoo\\0001_1.jpg", "actor\\0001_7.jpg", "bear\\0004_4.jpg"]
LABELS = {"sky": "1010", "dog": "0011"}


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("ImageList", "Groundtruth/AllLabels"):
        (SOURCE / folder).mkdir(parents=True)
    write("Concepts81.txt", "sky \r\ndog\r\n")
    write("ImageList/Imagelist.txt", "".join(f"{image} \r\n" for image in IMAGES))
    write("ImageList/TrainImagelist.txt", f"{IMAGES[2]}\r\n{IMAGES[1]}\r\n{IMAGES[0]} \r\n")
    write("ImageList/TestImagelist.txt", f"{IMAGES[3]}\n")
    for label, column in LABELS.items():
        write(f"Groundtruth/AllLabels/Labels_{label}.txt", "".join(f"{bit}\r\n" for bit in column))
    for image in IMAGES:
        file = SOURCE / "Flickr" / image.replace("\\", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file)
    return lambda *flags: run_here(monkeypatch, capsys, "scripts/nuswide.py", *flags)


def write(name, text):
    (SOURCE / name).write_bytes(text.encode())


def test_writes_the_contract(here):
    result = here()
    assert result.code == 0, result.err
    data = Path("data/nuswide")
    assert (data / "label.txt").read_text() == "sky\ndog\n"
    flickr = "datasets/NUS-WIDE/Flickr"
    expected = f"{flickr}/actor/0002_2.jpg\tsky\n{flickr}/actor/0001_7.jpg\tsky,dog\n"
    assert (data / "train.txt").read_text() == expected
    assert (data / "test.txt").read_text() == f"{flickr}/bear/0004_4.jpg\tdog\n"
    assert "left out: 1 (no labels)" in result.out
    assert sorted(path.name for path in data.iterdir()) == ["label.txt", "test.txt", "train.txt"]


def test_concepts_in_the_folder_of_their_archive(here):
    (SOURCE / "ConceptsList").mkdir()
    (SOURCE / "Concepts81.txt").rename(SOURCE / "ConceptsList" / "Concepts81.txt")
    assert here().code == 0
    assert Path("data/nuswide/label.txt").read_text() == "sky\ndog\n"
    write("ConceptsList/Concepts81.txt", "sky\nsky\n")
    assert "ConceptsList/Concepts81.txt: duplicate label 'sky'" in error_line(here())


def test_images_in_another_folder(here):
    """With the sub-folders of the archives, and without."""
    (SOURCE / "Flickr").rename("elsewhere")
    assert here("--images", "elsewhere").code == 0
    nested = Path("data/nuswide/train.txt").read_text()
    assert nested == "elsewhere/actor/0002_2.jpg\tsky\nelsewhere/actor/0001_7.jpg\tsky,dog\n"
    for file in Path("elsewhere").glob("*/*.jpg"):
        file.rename(Path("elsewhere") / file.name)
    assert here("--images", "elsewhere").code == 0
    assert Path("data/nuswide/train.txt").read_text() == nested.replace("actor/", "")
    assert Path("data/nuswide/test.txt").read_text() == "elsewhere/0004_4.jpg\tdog\n"
    (Path("elsewhere") / "0004_4.jpg").unlink()
    line = error_line(here("--images", "elsewhere"))
    assert "1 of 3 images are missing" in line and "elsewhere/bear/0004_4.jpg" in line
    line = error_line(here("--images", "nowhere"))
    assert "3 of 3 images are missing" in line and "pass --images with their folder" in line


def test_one_file_for_two_images_is_refused(here):
    """`actor/0002_2.jpg` and `bear/0002_2.jpg`, of which a flat folder holds one at most."""
    for name in ("Imagelist", "TestImagelist"):
        file = SOURCE / "ImageList" / f"{name}.txt"
        file.write_text(file.read_text().replace("bear\\0004_4", "bear\\0002_2"))
    Path("flat").mkdir()
    for image in IMAGES:
        Image.new("RGB", (4, 4)).save(Path("flat") / image.split("\\")[1])
    line = error_line(here("--images", "flat"))
    assert "flat/0002_2.jpg: may be flat/actor/0002_2.jpg or flat/bear/0002_2.jpg" in line
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("Groundtruth/AllLabels/Labels_dog.txt", "1\n0\n", "Labels_dog.txt: 2 values, expected"),
        ("Groundtruth/AllLabels/Labels_dog.txt", "1\n0\n2\n0\n", "holds other values than 0 and 1"),
        ("ImageList/TestImagelist.txt", "", "TestImagelist.txt: an empty list"),
        ("ImageList/TestImagelist.txt", "a.jpg\n", "a.jpg is not in Imagelist.txt"),
        ("ImageList/TestImagelist.txt", f"{IMAGES[3]}\n" * 2, "is a duplicate"),
        ("Concepts81.txt", "sky\ncat\n", "Labels_cat.txt: cannot be read"),
        ("Concepts81.txt", "sky\nsky\n", "duplicate label 'sky'"),
    ],
)
def test_bad_files_are_named(here, file, text, says):
    here()
    before = {path.name: path.read_bytes() for path in Path("data/nuswide").iterdir()}
    write(file, text)
    assert says in error_line(here())
    assert before == {path.name: path.read_bytes() for path in Path("data/nuswide").iterdir()}


def test_bytes_that_are_no_text(here):
    (SOURCE / "ImageList" / "Imagelist.txt").write_bytes(b"caf\xe9.jpg\n")
    assert "Imagelist.txt: not UTF-8 text" in error_line(here())
    (SOURCE / "Concepts81.txt").unlink()
    assert "Concepts81.txt: no such file; --data-dir" in error_line(here())
