"""From samples to a data folder: what is written, split off, checked and refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib.common.errors import UserError
from lib.data.boxes import read_boxes
from lib.data.folder import DataFolder
from lib.data.lists import check_labels, check_path, read_labels, read_split
from lib.data.preparation.splits import indicators
from lib.data.preparation.writer import Options, find_broken, write_data_folder
from lib.data.sources.annotations import AnnotatedImage

LABELS = ["cat", "dog", "cow"]
TARGET = Path("data/mine")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Ten little pictures in the working folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        Image.new("RGB", (4, 4)).save(f"{number}.png")
    return [f"{number}.png" for number in range(10)]


def samples(paths):
    return [AnnotatedImage(path, [LABELS[number % 3]]) for number, path in enumerate(paths)]


def write(train, test, left_out=None, **options):
    splits = {"train": train, "test": test}
    write_data_folder(Options(TARGET, **options), LABELS, splits, left_out or {})


def refused(*arguments, **options):
    with pytest.raises(UserError) as error:
        write(*arguments, **options)
    return str(error.value)


def snapshot():
    return {path.name: path.read_bytes() for path in TARGET.iterdir()}


def test_writes_the_contract(pictures, capsys):
    box = {"label": "cow", "box": [0, 1, 2, 3.5], "difficult": False}
    odd = 'we "ird\\.png'
    Image.new("RGB", (4, 4)).save(odd)
    train = [AnnotatedImage("0.png", ["dog", "cat"], unknown=["cow"]), AnnotatedImage("1.png")]
    test = [AnnotatedImage(odd, ["cow"], difficult=["dog"], objects=[box])]
    write(train, test, {"no annotations": 4, "never": 0})
    assert (TARGET / "train.txt").read_text() == "0.png\tcat,dog,?cow\n1.png\t\n"
    data = DataFolder.open("mine")
    split = data.split("test")
    targets, ignore = split.dense()
    assert targets.tolist() == [[0, 0, 1]] and ignore.tolist() == [[0, 1, 0]]
    assert read_boxes(data.path) == {"0.png": [], "1.png": [], odd: [box]}
    out = capsys.readouterr().out
    for line in (
        "train: 2 images, 1.00 labels an image (at most 2), 1 without labels",
        "positives (train/test): cat 1/0, dog 1/0, cow 0/1",
        "without positives in train: cow",
        "left out: 4 (no annotations)",
    ):
        assert line in out
    assert "never" not in out


def test_what_an_earlier_run_wrote_does_not_linger(pictures):
    TARGET.mkdir(parents=True)
    (TARGET / "bert.npy").write_text("kept")
    write(samples(pictures[:8]), [AnnotatedImage("8.png", [], difficult=["cat"])], val=0.25)
    assert {"val.txt", "ignore.npy"} <= set(snapshot())
    write(samples(pictures[:8]), samples(pictures[8:]))
    assert set(snapshot()) == {"label.txt", "train.txt", "test.txt", "bert.npy"}


def test_missing_images_are_named_or_left_out(pictures, capsys):
    train, test = samples(pictures[:5]), samples(pictures[5:])
    write(train, test)
    before = snapshot()
    gone = [AnnotatedImage(f"gone{number:02d}.png", ["cat"]) for number in range(12)]
    line = refused([*train, *gone[1:]], [*test, gone[0]])
    assert "12 of 22 images" in line and "gone10.png, and 2 more" in line and "gone11" not in line
    assert snapshot() == before
    write([*train, *gone], test, skip_missing=True)
    assert snapshot() == before and "left out: 12 (file is missing)" in capsys.readouterr().out
    assert refused(gone, test, skip_missing=True).startswith("data/mine/train.txt: ")
    assert snapshot() == before


def test_broken_images_are_found_when_asked(pictures, capsys):
    Path("3.png").write_bytes(b"no picture")
    both = samples(pictures[:5]), samples(pictures[5:])
    write(*both)
    assert list(find_broken(pictures)) == ["3.png"]
    assert "1 of 10 images" in refused(*both, check_images=True)
    write(*both, check_images=True, skip_missing=True)
    assert "3.png" not in (TARGET / "train.txt").read_text()
    out = capsys.readouterr().out
    assert "broken: 3.png" in out and "left out: 1 (file cannot be read)" in out


def test_images_stand_once(pictures):
    """The same picture in train and test would flatter every score."""
    for train, test, path in ((5, 3, "3.png"), (5, 5, "0.png")):
        twice = samples(pictures[:1]) if test == 5 else []
        line = refused([*samples(pictures[:train]), *twice], samples(pictures[test:]))
        assert line.startswith(f"{path}: duplicate, in ") and ("test" in line) == (test == 3)
    assert not TARGET.exists()


@pytest.mark.parametrize("labels", [["a", "a"], ["a,b"], ["a\tb"], ["?a"], [" a"], [""], ["a\nb"]])
def test_labels_without_a_place_in_the_lines(pictures, labels):
    with pytest.raises(UserError) as error:
        write_data_folder(Options(TARGET), labels, {"train": [AnnotatedImage("0.png")]}, {})
    assert error.value.where == "label" and not TARGET.exists()


def test_validation_images_leave_train(pictures):
    write(samples(pictures[:9]), samples(pictures[9:]), val=0.34)
    train, val = ((TARGET / f"{name}.txt").read_text().splitlines() for name in ("train", "val"))
    assert len(val) == 3 and len(train) == 6 and not set(train) & set(val)
    assert sorted(line.split("\t")[1] for line in val) == ["cat", "cow", "dog"]
    line = refused(samples(pictures[:9]), samples(pictures[9:]), val=0.01)
    assert line.startswith("--val 0.01: ")


def fits(check, *arguments):
    try:
        check(*arguments)
    except UserError:
        return False
    return True


TEXT = st.text(max_size=12)
ROWS = st.lists(
    st.tuples(TEXT, st.sets(st.integers(0, 4))), max_size=5, unique_by=lambda row: row[0]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=5), ROWS)
def test_what_is_written_reads_back(tmp_path_factory, names, rows):
    """Any label and path either is refused by the writer's checks, or comes back as it was."""
    labels = []
    for name in names:
        if fits(check_labels, [*labels, name], lambda row: "label"):
            labels.append(name)
    rows = [
        (path, [labels[n] for n in columns if n < len(labels)])
        for path, columns in rows
        if fits(check_path, path)
    ]
    if not labels or not rows:
        return
    folder = tmp_path_factory.mktemp("lines")
    found = [AnnotatedImage(path, names) for path, names in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lib.data.preparation.writer.missing_images", lambda paths: [])
        write_data_folder(Options(folder), labels, {"train": found}, {})
    assert read_labels(folder) == labels
    split = read_split(folder / "train.txt", labels)
    targets, ignore = split.dense()
    assert list(split.paths) == [path for path, _ in rows] and not ignore.any()
    assert targets.tolist() == [[int(label in names) for label in labels] for _, names in rows]
    assert targets.tolist() == indicators((names for _, names in rows), labels).toarray().tolist()
