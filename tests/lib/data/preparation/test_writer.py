"""From samples to a data folder: what is written, split off, checked and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib.common.errors import UserError
from lib.data.folder import DataFolder
from lib.data.lists import check_labels, check_path, read_labels, read_split
from lib.data.preparation.splits import indicators, stratified_choice
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


def snapshot():
    return {path.name: path.read_bytes() for path in TARGET.iterdir()}


def test_writes_the_contract(pictures, capsys):
    box = {"label": "cow", "box": [0, 1, 2, 3.5], "difficult": False}
    train = [AnnotatedImage("0.png", {"dog", "cat"}, unknown=["cow"]), AnnotatedImage("1.png", [])]
    test = [AnnotatedImage("2.png", ["cow"], difficult=["dog"], objects=[box])]
    write(train, test, {"no annotations": 4, "never": 0})
    assert (TARGET / "train.txt").read_text() == "0.png\tcat,dog,?cow\n1.png\t\n"
    data = DataFolder.open("mine")
    split = data.split("test")
    assert split.targets.tolist() == [[0, 0, 1]] and split.ignore.tolist() == [[0, 1, 0]]
    assert data.boxes()["2.png"] == [box]
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
    (TARGET).mkdir(parents=True)
    (TARGET / "bert.npy").write_text("kept")
    write(samples(pictures[:8]), [AnnotatedImage("8.png", [], difficult=["cat"])], val=0.25)
    assert {"val.txt", "ignore.npy"} <= set(snapshot())
    write(samples(pictures[:8]), samples(pictures[8:]))
    assert set(snapshot()) == {"label.txt", "train.txt", "test.txt", "bert.npy"}


def gone_of(name):
    return [AnnotatedImage(f"{name}.png", ["cat"])]


def test_missing_images_are_named_or_left_out(pictures, capsys):
    write(samples(pictures[:5]), samples(pictures[5:]))
    before = snapshot()
    gone = [AnnotatedImage(f"gone{number:02d}.png", ["cat"]) for number in range(12)]
    with pytest.raises(UserError) as error:
        write([*samples(pictures[:5]), *gone], samples(pictures[5:]))
    assert "12 of 22 images are missing" in str(error.value)
    with pytest.raises(
        UserError, match=r"2 of 8 images are missing or cannot be read: a.png, b.png; paths"
    ):
        write([*samples(pictures[:5]), *gone_of("a")], [*samples(pictures[5:6]), *gone_of("b")])
    assert "gone09.png, and 2 more" in str(error.value) and "gone10" not in str(error.value)
    assert snapshot() == before
    write([*samples(pictures[:5]), *gone], samples(pictures[5:]), skip_missing=True)
    assert snapshot() == before and "left out: 12 (file is missing)" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"train.txt: no images are left"):
        write(gone, samples(pictures[5:]), skip_missing=True)
    assert snapshot() == before


def test_images_stand_once(pictures):
    """The same picture in train and test would flatter every score."""
    with pytest.raises(UserError, match="3.png: duplicate, in test and train"):
        write(samples(pictures[:5]), samples(pictures[3:]))
    with pytest.raises(UserError, match="0.png: duplicate, in train"):
        write([*samples(pictures[:5]), *samples(pictures[:1])], samples(pictures[5:]))
    assert not TARGET.exists()


def test_broken_images_are_found_when_asked(pictures, capsys):
    Path("3.png").write_bytes(b"no picture")
    write(samples(pictures[:5]), samples(pictures[5:]))
    assert list(find_broken(pictures)) == ["3.png"]
    with pytest.raises(UserError, match=r"1 of 10 images are missing or cannot be read: 3.png"):
        write(samples(pictures[:5]), samples(pictures[5:]), check_images=True)
    write(samples(pictures[:5]), samples(pictures[5:]), check_images=True, skip_missing=True)
    assert "3.png" not in (TARGET / "train.txt").read_text()
    out = capsys.readouterr().out
    assert "broken: 3.png" in out and "left out: 1 (file cannot be read)" in out


@pytest.mark.parametrize("labels", [["a", "a"], ["a,b"], ["a\tb"], ["?a"], [" a"], [""], ["a\nb"]])
def test_labels_without_a_place_in_the_lines(pictures, labels):
    with pytest.raises(UserError, match="label"):
        write_data_folder(Options(TARGET), labels, {"train": [AnnotatedImage("0.png", [])]}, {})
    assert not TARGET.exists()


def test_validation_images_are_alike_and_the_same_each_time():
    random = np.random.default_rng(0)
    targets = (random.random((2000, 12)) < np.linspace(0.01, 0.4, 12)).astype(np.uint8)
    chosen = stratified_choice(targets, 0.2, seed=3)
    assert abs(chosen.mean() - 0.2) < 0.03
    share = targets[chosen].sum(axis=0) / targets.sum(axis=0)
    assert np.abs(share - 0.2).max() < 0.06, share
    assert (chosen == stratified_choice(targets, 0.2, seed=3)).all()
    assert (chosen != stratified_choice(targets, 0.2, seed=4)).any()
    assert abs(stratified_choice(np.zeros((50, 2), np.uint8), 0.3, 0).sum() - 15) == 0


def test_validation_images_leave_train(pictures):
    write(samples(pictures[:9]), samples(pictures[9:]), val=0.34)
    train, val = ((TARGET / f"{name}.txt").read_text().splitlines() for name in ("train", "val"))
    assert len(val) == 3 and len(train) == 6 and not set(train) & set(val)
    assert sorted(line.split("\t")[1] for line in val) == ["cat", "cow", "dog"]
    with pytest.raises(UserError, match=r"--val 0.01: leaves one part of 9 images empty"):
        write(samples(pictures[:9]), samples(pictures[9:]), val=0.01)


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
    rows = [(path, {n for n in columns if n < len(labels)}) for path, columns in rows]
    rows = [(path, columns) for path, columns in rows if fits(check_path, path)]
    if not labels or not rows:
        return
    folder = tmp_path_factory.mktemp("lines")
    found = [AnnotatedImage(path, [labels[n] for n in columns]) for path, columns in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lib.data.preparation.writer.missing_images", lambda paths: [])
        write_data_folder(Options(folder), labels, {"train": found}, {})
    assert read_labels(folder) == labels
    paths, targets, ignore = read_split(folder / "train.txt", labels)
    assert paths == [path for path, _ in rows] and not ignore.any()
    expected = indicators(([labels[n] for n in columns] for _, columns in rows), labels)
    assert (targets == expected).all()


def test_boxes_are_valid_json_whatever_the_path(pictures):
    odd = 'we "ird\\.png'
    Image.new("RGB", (4, 4)).save(odd)
    box = {"label": "cat", "box": [0, 0, 1, 1], "difficult": True}
    write([AnnotatedImage(odd, ["cat"], objects=[box])], samples(pictures))
    assert json.loads((TARGET / "boxes.json").read_text())[odd] == [box]
