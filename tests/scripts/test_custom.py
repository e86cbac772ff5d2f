"""scripts/custom.py: splits, groups, sources, flags, its summary, and a run that follows."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.annotations import IMAGES, ROWS, coco, picture, pictures, split, table, write
from tests.helpers.commands import TINY, run_here


def test_splits_of_a_table(custom):
    """Its paths are relative to the working folder."""
    text = (
        'path,labels,split\nphotos/a.jpg,"dog,cat",train\nphotos/b.jpg,dog; ?cow,Train\n'
        "photos/c.jpg,,valid\nphotos/d.jpg,cow|cat,test\n"
    )
    result = custom("own.csv", content=text)
    assert result.code == 0, result.err
    assert Path("data/mine/label.txt").read_text() == "cat\ncow\ndog\n"
    assert split("train") == ["photos/a.jpg\tcat,dog", "photos/b.jpg\t?cow,dog"]
    assert split("val") == ["photos/c.jpg\t"] and split("test") == ["photos/d.jpg\tcat,cow"]
    assert result.has("own.csv: read as a CSV table with a row an image")
    assert result.has("  photos/a.jpg: cat, dog") and result.has("  photos/b.jpg: ?cow, dog")
    for flags in (("--test-share", "0.5"), ("--val", "0.5")):
        assert custom("own.csv", *flags).where == " ".join(flags)


def test_images_are_split_alike(custom):
    pictures("set", *range(20))
    rows = (f"{number}.jpg,{'cat' if number % 2 else 'dog'}\n" for number in range(20))
    write("own.csv", "path,labels\n" + "".join(rows))
    flags = ("--images", "set", "--val", "0.25")
    assert len(custom("own.csv", *flags).labels) == 20
    assert [len(split(name)) for name in ("train", "val", "test")] == [12, 4, 4]
    for name in ("val", "test"):
        assert sum(line.endswith("\tcat") for line in split(name)) == 2
    before = split("test")
    assert custom("own.csv", *flags, "--seed", "1").code == 0 and split("test") != before


def test_sources_of_their_own(custom):
    picture("other/a.jpg", 40)
    write("val.csv", "path,labels\na.jpg,cat\n")
    write("test.json", coco(images=[{"id": 0, "file_name": "h.jpg"}], annotations=[]))
    flags = ("--val-from", "val.csv", "--val-images", "other", "--test", "test.json")
    assert custom("own.csv", *IMAGES, *flags, content=table("cat", "dog", "cat")).code == 0
    assert split("val") == ["other/a.jpg\tcat"] and split("test") == ["photos/h.jpg\t"]
    assert custom("own.csv", *IMAGES, "--test", "own.csv").where == "own.csv:2"
    write("test.csv", "path,labels\n")
    assert custom("own.csv", *IMAGES, "--test", "test.csv").where == "test.csv"


def test_images_with_a_folder_for_each_split(custom):
    pictures("set", "train/0", "test/0")
    write("test.csv", "path,labels\n0.jpg,cat\n")
    flags = ("--test", "test.csv", "--images", "set")
    result = custom("own.csv", *flags, content="path,labels,split\n0.jpg,cat,train\n")
    assert result.code == 0 and split("test") == ["set/test/0.jpg\tcat"], result.err
    for folder in ("train", "test"):
        Path(f"set/{folder}/0.jpg").rename(f"set/{folder}.jpg")
    picture("set/0.jpg", 5)
    line = custom("own.csv", *flags).line
    assert "error: test.csv:2: " in line and "--test-images" in line


def test_images_of_a_group_stay_together(custom):
    patients = "ppqqrrss"
    content = table(*(f"cat,{one}" for one in patients), header="path,labels,patient")
    share = (*IMAGES, "--test-share", "0.25", "--val", "0.3")
    result = custom("own.csv", *share, "--group", "Patient", content=content)
    assert result.code == 0, result.err
    groups = [
        {patients["abcdefgh".index(line[7])] for line in split(name)}  # photos/a.jpg
        for name in ("train", "val", "test")
    ]
    assert [len(one) for one in groups] == [2, 1, 1] and len(set().union(*groups)) == 4
    result = custom("own.csv", *share, "--group", "([a-d]|[e-h])\\.jpg")
    assert result.has(": 8 groups of 8 of 8 images")
    one_group = ("photos", "--test-share 0.25")
    for pattern, where in (one_group, ("(", "--group ("), ("zzz", "--group zzz")):
        assert custom("own.csv", *share, "--group", pattern).where == where
    content = table("cat,A,train", "dog,A,test", "cat,B,train", header="path,labels,patient,split")
    line = custom("own.csv", *IMAGES, "--group", "patient", content=content).line
    assert "--group patient: " in line and "'A'" in line and "test and train" in line
    assert custom("own.csv", *IMAGES).code == 0


def test_a_large_group_is_reported(custom):
    cells = [f"cat,{'A' if number < 6 else number}" for number in range(8)]
    flags = (*IMAGES, "--group", "who", "--test-share", "0.5")
    result = custom("own.csv", *flags, content=table(*cells, header="path,labels,who"))
    assert result.has("--group who: 3 groups")
    assert result.has("--test-share 0.5: 2 of 8 images", "the largest has 6")


def test_a_group_in_the_path_that_the_source_names(custom):
    rows = [f"C:\\me\\pat_{number // 2}\\{name}.jpg,cat" for number, name in enumerate("abcdefgh")]
    content = "\n".join(["path,labels", *rows])
    for pattern in ("pat_(\\d+)", "me/pat_(\\d+)", "me\\\\pat_(\\d+)"):
        result = custom("own.csv", *IMAGES, "--group", pattern, content=content)
        assert ": 4 groups of 8 of 8 images" in result.out, result.err


def test_versions_of_a_picture_and_copies_stay_together(custom):
    names = [f"p{n}_jpg.rf.{version}{n}ab" for n in range(6) for version in range(2)]
    pictures("set", *names, "x")
    shutil.copy("set/x.jpg", "set/y.jpg")
    rows = "".join(f"{name}.jpg,cat\n" for name in (*names, "x", "y"))
    for seed in range(3):
        flags = ("--images", "set", "--seed", seed)
        assert custom("own.csv", *flags, content=f"path,labels\n{rows}").code == 0
        test = [Path(line.split("\t")[0]).name for line in split("test")]
        stems = [name.split("_jpg")[0].replace("y", "x") for name in test]
        assert test and all(stems.count(stem) == 2 for stem in stems)


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        *(("own.xlsx", "CSV"), ("own.parquet", "pandas"), ("own.zip", "unpack")),
        *(("own.json", "a, b"), ("own.doc", "a CSV table")),
    ],
)
def test_other_files_say_what_to_do(custom, file, remedy):
    result = custom(file, content={"a": 1, "b": 2})
    assert result.where == file and remedy in result.err


def test_folders_and_the_file_that_is_read_in_them(custom):
    assert custom("gone").where == "gone"
    assert "error: photos: " in (line := custom("photos").line) and "a.jpg, b.jpg" in line
    write("set/whatever.csv", table(*["cat"] * 5))
    assert custom("set", *IMAGES).code == 0
    write("set/other.csv", "path,cat,dog\n")
    line = custom("set", *IMAGES).line
    assert "error: set: " in line and "(other.csv, whatever.csv)" in line
    write("set/labels.csv", table(*(names.replace(",", ";") for names in ROWS.values())))
    result = custom("set", *IMAGES)
    assert result.labels == ROWS and result.has("other.csv, whatever.csv")
    write("annotated/annotations/instances_default.json", coco())
    assert custom("annotated", *IMAGES).labels == ROWS
    write("yolo/labels/a.txt", "0 0.5 0.5 1 1\n")
    picture("yolo/images/a.jpg")
    assert "yolo: " in (line := custom("yolo").line) and "data.yaml" in line


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        (("--name", "../x"), "--name ../x"),
        (("--labels-column", "a", "--label-columns", "b"), "--labels-column"),
        (("--test-images", "photos"), "--test-images"),
        (("--val-images", "photos"), "--val-images"),
        (("--group", ""), "--group"),
        (("--separator", ""), "--separator"),
        (("--images", "gone"), "--images gone"),
        (("--extension", "a/b"), "--extension"),
        (("--allow", "odd"), "--allow odd"),
        (("--blank", "unknown"), "--blank"),
        (("--not-labels", "labels"), "--not-labels"),
        (("--recursive",), "--recursive"),
    ],
)
def test_flags_that_are_wrong_or_have_no_effect(custom, flags, where):
    result = custom("own.csv", *flags, content=table("cat", "dog"))
    assert result.where == where


def test_own_data_trains_from_another_experiment(custom, monkeypatch, capsys):
    """The README's worked example, at toy size."""
    content = table(*("cat" if number % 2 else "dog" for number in range(8)))
    assert custom("own.csv", *IMAGES, "--val", "0.3", content=content).code == 0
    flags = (*TINY, *"--data mine --batch-size 4 --max-epochs 1 --select-on val".split())
    assert run_here(monkeypatch, capsys, "train.py", *flags).code == 0
    more = ("--pretrained-model", "experiments/mlic_mine/exp1")
    assert run_here(monkeypatch, capsys, "train.py", *flags, *more).code == 0
