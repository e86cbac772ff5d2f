"""The data folder: what it holds, and the line and remedy of what is wrong in it."""

import json

import numpy as np
import pytest
from PIL import Image

from lib.data.boxes import read_boxes
from lib.data.folder import DataFolder, labels_hash, missing_images
from lib.data.lists import read_split
from tests.helpers.refusals import refused

LABELS = ["cat", "dog", "tv monitor"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """data/pets with three images, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data" / "pets"
    path.mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    (path / "label.txt").write_text("\n".join(LABELS) + "\n")
    (path / "train.txt").write_text("a.png\tdog,cat\nb.png\t\nc.png\ttv monitor,?dog\n")
    (path / "test.txt").write_text("b.png\tcat\n")
    return path


def test_reads_targets_and_unknown_labels(folder):
    split = DataFolder.open("pets").split("train")
    assert list(split.paths) == ["a.png", "b.png", "c.png"]
    targets, ignore = split.dense()
    assert targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert ignore.tolist() == [[False] * 3, [False] * 3, [False, True, False]]
    assert len(split.head(2)) == 2 and len(split.head(None)) == 3


def test_opens_a_path_too(folder):
    assert DataFolder.open(str(folder)).name == "pets"
    assert DataFolder.open("data/pets/").labels == LABELS
    assert DataFolder.open("pets/").name == "pets"


def test_windows_line_ends_and_byte_order_mark(folder):
    (folder / "train.txt").write_bytes(b"\xef\xbb\xbfa.png\tdog\r\nb.png\tcat\r\n\r\n")
    assert DataFolder.open("pets").split("train").dense()[0].tolist() == [[0, 1, 0], [1, 0, 0]]


def test_ignore_marks_the_test_split_alone(folder):
    np.save(folder / "ignore.npy", np.array([[0, 1, 0]]))
    data = DataFolder.open("pets")
    assert data.split("test").dense()[1].tolist() == [[False, True, False]]
    assert not data.split("train").dense()[1][0].any()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        *(("a.png dog", "<TAB>"), ("a.png\tdog\tcat", "<TAB>"), ("\tdog", "<TAB>")),
        *(("a.png\tdgo", "'dog'"), ("a.png\tdog,", "''")),
        *(("a.png\tdog,dog", "'dog'"), ("a.png\tdog,?dog", "'dog'")),
    ],
)
def test_bad_lines_are_named(folder, line, name):
    (folder / "train.txt").write_text(f"b.png\tcat\n{line}\n")
    with refused("data/pets/train.txt:2", name):
        DataFolder.open("pets").split("train")


@pytest.mark.parametrize(
    ("text", "line"),
    [("cat\ncat\n", ":2"), ("cat\n\ndog\n", ":2"), ("cat,dog\n", ":1"), ("?cat\n", ":1"), ("", "")],
)
def test_bad_label_lists(folder, text, line):
    (folder / "label.txt").write_text(text)
    with refused(f"data/pets/label.txt{line}"):
        DataFolder.open("pets")


def test_splits_that_cannot_be_read(folder):
    for content, where in (
        (b"\n", "data/pets/train.txt"),
        (b"a.png\t\xff\xfe\n", "data/pets/train.txt"),
        (b"gone.png\tdog\n", "gone.png"),
    ):
        (folder / "train.txt").write_bytes(content)
        with refused(where, "train.txt"):
            DataFolder.open("pets").split("train")
    with refused("data/pets/val.txt", "--select-on val"):
        DataFolder.open("pets").split("val")


@pytest.mark.parametrize(
    ("data", "command"),
    [
        ("digits", "digits.py"),
        ("voc2012", "voc2007.py --year 2012"),
        ("mscoco2017", "mscoco.py --year 2017"),
    ],
)
def test_a_missing_folder_names_the_script_that_makes_it(tmp_path, monkeypatch, data, command):
    monkeypatch.chdir(tmp_path)
    with refused(f"data/{data}", f"python scripts/{command}"):
        DataFolder.open(data)


def test_ignore_of_another_shape(folder):
    np.save(folder / "ignore.npy", np.zeros((2, 3)))
    with refused("data/pets/ignore.npy", "(2, 3)", "(1, 3)"):
        DataFolder.open("pets").split("test")


@pytest.mark.parametrize("marks", [[[2, 0, 0]], [[np.nan, 0, 0]], [["1", "0", "0"]]])
def test_ignore_holds_zeros_and_ones(folder, marks):
    np.save(folder / "ignore.npy", np.array(marks))
    with refused("data/pets/ignore.npy"):
        DataFolder.open("pets").split("test")


def test_label_embeddings(folder):
    data = DataFolder.open("pets")
    vectors = np.arange(12, dtype=np.float64).reshape(3, 4)
    np.save(folder / "bert.npy", vectors)
    found = data.label_embeddings("bert")
    assert found.dtype == np.float32 and (found == vectors).all()
    (folder / "bert.json").write_text(json.dumps({"labels_sha256": labels_hash(LABELS)}))
    data.label_embeddings("bert")
    (folder / "bert.json").write_text(json.dumps({"labels_sha256": labels_hash(LABELS[::-1])}))
    with refused("data/pets/bert.json"):
        data.label_embeddings("bert")


@pytest.mark.parametrize(
    "array",
    [
        *(np.zeros((2, 4)), np.zeros((3, 0)), np.zeros(3)),
        *(np.full((3, 4), 1e300), np.ones((3, 4), complex), np.full((3, 4), np.nan)),
        *(np.array([["a"], ["b"], ["c"]]), np.array([{}, {}, {}], dtype=object)),
    ],
)
def test_bad_label_embeddings(folder, array):
    np.save(folder / "glove.npy", array, allow_pickle=True)
    with refused("data/pets/glove.npy"):
        DataFolder.open("pets").label_embeddings("glove")


@pytest.mark.parametrize(
    ("kind", "flags"), [("bert", ""), ("glove", " --glove FILE"), ("text", " --text-model FOLDER")]
)
def test_missing_label_embeddings_say_what_to_do(folder, kind, flags):
    command = f"python embedding.py --data data/pets{flags};"
    with refused(f"data/pets/{kind}.npy", command, "--embed-type random"):
        DataFolder.open("pets").label_embeddings(kind)


def test_boxes(folder):
    assert read_boxes(folder) == {}
    boxes = {"a.png": [{"label": "cat", "box": [0, 0, 1, 2.5], "difficult": False}]}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    assert read_boxes(folder) == boxes
    huge = '{"a.png": [{"label": "cat", "box": [0, 0, 1, 1%s]}]}' % ("0" * 400)
    for wrong in ('{"a.png": [{"label": "cat", "box": [1]}]}', "[]", "{", '{"a.png": 3}', huge):
        (folder / "boxes.json").write_text(wrong)
        with refused(folder / "boxes.json"):
            read_boxes(folder)


def test_experiments_of_other_labels_are_refused(folder):
    with refused("exp1", "data/pets/label.txt"):
        DataFolder.open("pets").require_labels(LABELS[::-1], "exp1")


def test_a_link_that_leads_to_itself_hides_nothing(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "far.png").symlink_to("a.png")
    paths = [str(tmp_path / f"{name}.png") for name in ("a", "loop", "far", "none")]
    assert missing_images(paths) == [paths[1], paths[3]]


def test_split_reads_many_lines_in_order(tmp_path):
    file = tmp_path / "train.txt"
    file.write_text("".join(f"{i}.jpg\t{LABELS[i % 3]}\n" for i in range(100)))
    split = read_split(file, LABELS)
    targets, _ = split.dense()
    assert split.paths[37] == "37.jpg" and (targets.argmax(1) == np.arange(100) % 3).all()
