"""NUS-WIDE: from official files to the data folder."""

from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import error_line, error_where, run_here

SOURCE, DATA = Path("datasets/NUS-WIDE"), Path("data/nuswide")
IMAGES = ["actor\\0002_2.jpg", "zoo\\0001_1.jpg", "actor\\0001_7.jpg", "bear\\0004_4.jpg"]
LABELS = {"sky": "1010", "dog": "0011"}
TRUTH, TEST = "Groundtruth/AllLabels", "ImageList/TestImagelist.txt"


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("ImageList", TRUTH):
        (SOURCE / folder).mkdir(parents=True)
    write("Concepts81.txt", "sky \r\ndog\r\n")
    write("ImageList/Imagelist.txt", "".join(f"{image} \r\n" for image in IMAGES))
    write("ImageList/TrainImagelist.txt", f"{IMAGES[2]}\r\n{IMAGES[1]}\r\n{IMAGES[0]} \r\n")
    write(TEST, f"{IMAGES[3]}\n")
    for label, column in LABELS.items():
        write(f"{TRUTH}/Labels_{label}.txt", "".join(f"{bit}\r\n" for bit in column))
    for image in IMAGES:
        file = SOURCE / "Flickr" / image.replace("\\", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file)
    return lambda *flags: run_here(monkeypatch, capsys, "scripts/nuswide.py", *flags)


def write(name, text):
    (SOURCE / name).write_bytes(text.encode("latin-1"))


def test_writes_the_contract(here):
    result = here()
    assert result.code == 0 and "left out: 1 (no labels)" in result.out, result.err
    assert (DATA / "label.txt").read_text() == "sky\ndog\n"
    flickr = "datasets/NUS-WIDE/Flickr"
    expected = f"{flickr}/actor/0002_2.jpg\tsky\n{flickr}/actor/0001_7.jpg\tsky,dog\n"
    assert (DATA / "train.txt").read_text() == expected
    assert (DATA / "test.txt").read_text() == f"{flickr}/bear/0004_4.jpg\tdog\n"
    assert sorted(path.name for path in DATA.iterdir()) == ["label.txt", "test.txt", "train.txt"]
    (SOURCE / "ConceptsList").mkdir()  # the folder of their archive
    (SOURCE / "Concepts81.txt").rename(SOURCE / "ConceptsList" / "Concepts81.txt")
    assert here().code == 0 and (DATA / "label.txt").read_text() == "sky\ndog\n"


def test_images_in_another_folder(here):
    """With the sub-folders of the archives, and without."""
    (SOURCE / "Flickr").rename("elsewhere")
    assert here("--images", "elsewhere").code == 0
    nested = (DATA / "train.txt").read_text()
    assert nested == "elsewhere/actor/0002_2.jpg\tsky\nelsewhere/actor/0001_7.jpg\tsky,dog\n"
    for file in Path("elsewhere").glob("*/*.jpg"):
        file.rename(Path("elsewhere") / file.name)
    assert here("--images", "elsewhere").code == 0
    assert (DATA / "train.txt").read_text() == nested.replace("actor/", "")
    assert (DATA / "test.txt").read_text() == "elsewhere/0004_4.jpg\tdog\n"
    (Path("elsewhere") / "0004_4.jpg").unlink()
    assert "elsewhere/bear/0004_4.jpg" in error_line(here("--images", "elsewhere"))
    line = error_line(here("--images", "nowhere"))
    assert "3 of 3" in line and "--images" in line


def test_one_file_for_two_images_is_refused(here):
    """`actor/0002_2.jpg` and `bear/0002_2.jpg`, of which a flat folder holds one at most."""
    for name in ("Imagelist", "TestImagelist"):
        file = SOURCE / "ImageList" / f"{name}.txt"
        file.write_text(file.read_text().replace("bear\\0004_4", "bear\\0002_2"))
    Path("flat").mkdir()
    for image in IMAGES:
        Image.new("RGB", (4, 4)).save(Path("flat") / image.split("\\")[1])
    assert error_where(here("--images", "flat")) == "flat/0002_2.jpg"
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("file", "text", "where"),
    [
        *((f"{TRUTH}/Labels_dog.txt", text, None) for text in ("1\n0\n", "1\n0\n2\n0\n")),
        ("ImageList/Imagelist.txt", "caf\xe9.jpg\n", None),
        *((TEST, text, None) for text in ("", "a.jpg\n", f"{IMAGES[3]}\n" * 2)),
        (TEST, f"{IMAGES[3]}\n{IMAGES[0]}\n", "Flickr/actor/0002_2.jpg"),
        ("Concepts81.txt", "sky\ncat\n", f"{TRUTH}/Labels_cat.txt"),
        *(("Concepts81.txt", text, None) for text in ("sky\nsky\n", None)),
    ],
)
def test_bad_files_are_named(here, file, text, where):
    write(file, text) if text is not None else (SOURCE / file).unlink()
    assert error_where(here()) == str(SOURCE / (where or file)) and not DATA.exists()
