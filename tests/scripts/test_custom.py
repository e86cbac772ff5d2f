"""A user's own pictures and labels, in every form that is understood."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.commands import TINY, error_line, run_here

OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>1</xmin><ymin>2</ymin>
<xmax>3</xmax><ymax>4</ymax></bndbox></object>"""


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Twenty pictures in photos/ of the working folder, and the command."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(f"photos/{number}.png")
    return lambda *flags: run_here(
        monkeypatch, capsys, "scripts/custom.py", "--name", "mine", *map(str, flags)
    )


def lines(split):
    return Path(f"data/mine/{split}.txt").read_text().splitlines()


def write_csv(*rows, header="path,labels,split", file="own.csv"):
    Path(file).write_text("\n".join([header, *rows]) + "\n")
    return file


def test_csv_with_splits(here):
    file = write_csv(
        'photos/0.png,"dog,cat",train',
        "photos/1.png,dog; ?cow,Train",
        "photos/2.png,,valid",
        "photos/3.png,cow|cat,test",
    )
    result = here("--train", file)
    assert result.code == 0, result.err
    assert Path("data/mine/label.txt").read_text() == "cat\ncow\ndog\n"
    assert lines("train") == ["photos/0.png\tcat,dog", "photos/1.png\t?cow,dog"]
    assert lines("val") == ["photos/2.png\t"] and lines("test") == ["photos/3.png\tcat,cow"]


def test_csv_without_splits_is_parted_alike(here):
    rows = [f"photos/{number}.png,{'cat' if number % 2 else 'dog'}" for number in range(20)]
    file = write_csv(*rows, header="Labels,path".replace("Labels,path", "path,labels"))
    assert here("--train", file, "--val", "0.25").code == 0
    assert [len(lines(split)) for split in ("train", "val", "test")] == [12, 4, 4]
    for split in ("val", "test"):
        assert sum(line.endswith("\tcat") for line in lines(split)) == 2
    everything = [line for split in ("train", "val", "test") for line in lines(split)]
    assert len(set(everything)) == 20
    before = lines("test")
    assert here("--train", file, "--val", "0.25", "--seed", "1").code == 0
    assert lines("test") != before


def test_coco_json_for_train_and_test(here):
    for name, image in (("a", 0), ("b", 1)):
        content = {
            "images": [{"id": 5, "file_name": f"{image}.png"}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [{"image_id": 5, "category_id": 1, "bbox": [1, 1, 2, 2]}],
        }
        Path(f"{name}.json").write_text(json.dumps(content))
    assert here("--train", "a.json", "--test", "b.json", "--images", "photos").code == 0
    assert lines("train") == ["photos/0.png\tcat"] and lines("test") == ["photos/1.png\tcat"]
    assert json.loads(Path("data/mine/boxes.json").read_text())["photos/1.png"]


def test_voc_xml(here):
    Path("xml").mkdir()
    for number in range(4):
        body = OBJECT.format("Cat", 0) + OBJECT.format("dog", number % 2)
        name = f"<filename>{number}.png</filename>" if number else ""
        Path(f"xml/{number}.xml").write_text(f"<annotation>{name}{body}</annotation>")
    Path("xml/0.xml").rename("xml/4.xml")
    Path("photos/4.png").rename("photos/4.jpg")
    flags = ("--train", "xml", "--images", "photos", "--test-share", "0.5")
    assert here(*flags).code == 0
    assert len(lines("train")) == len(lines("test")) == 2
    assert Path("data/mine/label.txt").read_text() == "Cat\ndog\n"
    everything = {line.split("\t")[0] for line in lines("train") + lines("test")}
    assert everything == {"photos/1.png", "photos/2.png", "photos/3.png", "photos/4.jpg"}
    marks = np.load("data/mine/ignore.npy")
    difficult = ["dog" not in line for line in lines("test")]
    assert marks.tolist() == [[0, int(there)] for there in difficult] and any(difficult)


@pytest.mark.parametrize("delimiter, file", [(";", "own.csv"), ("\t", "own.tsv")])
def test_tables_with_another_delimiter(here, delimiter, file):
    """As office programs write them where a comma stands in numbers."""
    rows = [
        delimiter.join((f"photos/{number}.png", "cat,dog", split))
        for number, split in enumerate(("train", "test"))
    ]
    write_csv(*rows, header=delimiter.join(("path", "labels", "split")), file=file)
    assert here("--train", file).code == 0
    assert lines("train") == ["photos/0.png\tcat,dog"] and lines("test") == [
        "photos/1.png\tcat,dog"
    ]


def coco(**parts):
    return {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(20)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "unused"}],
        "annotations": [
            {"image_id": n, "category_id": 1, "bbox": [], "iscrowd": None} for n in range(15)
        ],
        **parts,
    }


def test_coco_images_without_annotations_are_kept(here):
    Path("own.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(coco()).encode())
    assert here("--train", "own.json", "--images", "photos").code == 0
    everything = lines("train") + lines("test")
    assert len(everything) == 20 and sum(line.endswith("\t") for line in everything) == 5
    assert Path("data/mine/label.txt").read_text() == "cat\n"


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            {"categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]},
            "own.json: categories[1]: id 1 is a duplicate",
        ),
        ({"categories": [{"id": 1, "name": "?cat"}]}, "own.json: image 0: label '?cat': no comma"),
        ({"images": [{"id": 1, "file_name": "0.png"}] * 2}, "own.json: images[1]: id 1 is a"),
        (
            {"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1e308, 0, 1e308, 1]}]},
            "own.json: annotations[0]: bbox is not x, y, width and height",
        ),
    ],
)
def test_bad_coco_is_named(here, parts, says):
    Path("own.json").write_text(json.dumps(coco(**parts)))
    assert says in error_line(here("--train", "own.json", "--images", "photos"))


def test_image_folder_with_metadata(here):
    records = [{"file_name": f"{n}.png", "labels": ["cat", "dog"][: n % 3]} for n in range(20)]
    Path("photos/metadata.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n\n")
    assert here("--train", "photos").code == 0
    assert len(lines("train")) == 16 and "photos/" in lines("train")[0]


def test_order_of_labels_can_be_given(here):
    Path("order.txt").write_text("dog\nzebra\ncat\n")
    file = write_csv("photos/0.png,cat;dog,train", "photos/1.png,cat,test")
    assert here("--train", file, "--labels", "order.txt").code == 0
    assert Path("data/mine/label.txt").read_text() == "dog\nzebra\ncat\n"
    assert lines("train") == ["photos/0.png\tdog,cat"]
    Path("order.txt").write_text("dog\n")
    line = error_line(here("--train", file, "--labels", "order.txt"))
    assert "order.txt: lacks the label 'cat'" in line


@pytest.mark.parametrize(
    ("rows", "header", "says"),
    [
        (["photos/0.png,cat,dog,train"], None, "own.csv:2: 3 fields expected; quote what"),
        (["photos/0.png"], None, "own.csv:2: 3 fields expected"),
        (["photos/0.png,cat,later"], None, "own.csv:2: split 'later': expected train, val or"),
        (["photos/0.png,cat;?cat,train"], None, "own.csv:2: label 'cat' is both"),
        ([",cat,train"], None, "own.csv:2: no path"),
        (['photos/0.png,"cat,train'], None, ": not CSV: unexpected end"),
        (
            ["photos/0.png,cat"],
            "file,labels",
            "own.csv:1: expected a header with a column of image files (path, ",
        ),
        ([], None, "own.csv: names no image"),
        (["gone.png,cat,train", "photos/0.png,cat,test"], None, "are missing or cannot be read: g"),
        (["photos/0.png,cat,test"], None, "own.csv: names no train image"),
        (
            ["photos/0.png,cat,"],
            "path,labels,labels",
            "own.csv:1: expected a header of different names: 'labels' is",
        ),
        (["photos/0.png,,train", "photos/1.png,,test"], None, "no image has a label"),
        (['photos/0.png,"a\tb",train'], None, "own.csv:2: label 'a\\tb': no comma, tab"),
        (["photos/0.png,cat,", "photos/../photos/0.png,dog,"], None, "own.csv:3: photos/../ph"),
        (["photos,cat,train", "photos/0.png,cat,test"], None, "1 of 2 images are missing or"),
        (["a\0b/0.png,cat,train", "photos/0.png,cat,test"], None, "'a\\x00b/0.png': a path with"),
        (["0.png,cat,train", "1.png,cat,test"], None, "pass --images with their folder"),
        (["photos/0.png,cat,train"], None, "--test-share 0.2: leaves one part of 1 images empty"),
    ],
)
def test_bad_tables_are_named(here, rows, header, says):
    file = write_csv(*rows, header=header or "path,labels,split")
    assert says in error_line(here("--train", file))
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "metadata.jsonl:1: not JSON"),
        ("[1]", 'metadata.jsonl:1: expected {"file_name"'),
        ('{"file_name": "0.png", "labels": [{}]}', "metadata.jsonl:1: labels must be"),
        (
            '{"file_name": "0.png"}',
            "metadata.jsonl:1: no labels; its keys are file_name; --labels-",
        ),
    ],
)
def test_bad_metadata_is_named(here, text, says):
    Path("photos/metadata.jsonl").write_text(text)
    assert says in error_line(here("--train", "photos"))


def test_sources_that_are_not_understood(here):
    assert "gone: no such file or folder" in error_line(here("--train", "gone"))
    assert "photos: a folder without annotations (0.png, 1.png" in error_line(
        here("--train", "photos")
    )
    Path("own.csv").write_bytes(b"path,labels\ncaf\xe9.png,cat\n")
    assert "own.csv: not UTF-8 text" in error_line(here("--train", "own.csv"))
    Path("own.csv").write_text("path,labels\nphotos/0.png,cat\n")
    assert "--name ../x: must be the name" in error_line(
        here("--train", "own.csv", "--name", "../x")
    )


def test_own_data_trains_from_another_experiment(here, monkeypatch, capsys):
    """The README's worked example, at toy size."""
    rows = [f"photos/{number}.png,{'cat' if number % 2 else 'dog'}" for number in range(20)]
    assert here("--train", write_csv(*rows, header="path,labels"), "--val", "0.2").code == 0
    flags = (*TINY, *"--data mine --batch-size 5 --max-epochs 1 --select-on val".split())
    assert run_here(monkeypatch, capsys, "train.py", *flags).code == 0
    more = ("--pretrained-model", "experiments/mlic_mine/exp1")
    assert run_here(monkeypatch, capsys, "train.py", *flags, *more).code == 0
