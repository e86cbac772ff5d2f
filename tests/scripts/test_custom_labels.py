"""scripts/custom.py: labels that it refuses, renames and drops; splits; how it finds the files."""

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.annotations import IMAGES, coco, labels_of, picture, split, write
from tests.helpers.commands import error_line


def table(*labels, header="path,labels"):
    rows = (f"{name}.jpg,{text}" for name, text in zip("abcdefgh", labels, strict=False))
    return "\n".join([header, *rows])


@pytest.mark.parametrize(
    ("labels", "says", "flags", "names"),
    [
        (
            ("[cat", "dog]", "cow"),
            "labels with brackets, braces or quotes: '[cat' and 'dog]' (2 labels); --separator",
            ("--map", "map.csv"),
            "cat",
        ),
        (
            ('"""cat"""', "'dog'", "cow"),
            "brackets, braces or quotes: '\"cat\"' and \"'dog'\"",
            (),
            None,
        ),
        (
            ("3", "7;3", "x"),
            "labels that are only numbers: '3' and '7' (2 labels); --label-names FILE",
            ("--label-names", "names.txt"),
            "dog",
        ),
        (
            ("1", "0", "1"),
            "nothing but 0 and 1, or no and yes: '0' and '1' (2 labels); --label-columns",
            (),
            None,
        ),
        (("1.0", "0.0", "1.0"), "nothing but 0 and 1, or no and yes: '0.0' and '1.0' (2", (), None),
        (
            ("nan", "cat", "dog;nan"),
            "labels that mean no label: 'nan' (1 label); --none WORD",
            ("--none", "nan"),
            "",
        ),
        (("None", "cat", "null"), "mean no label: 'None' and 'null'", (), None),
        (
            ("Dog", "dog", "DOG;cat"),
            "labels that are equal but for letter case: 'DOG' and 'Dog' (3 labels); --lowercase",
            ("--lowercase",),
            "dog",
        ),
        (
            ("dog.", "dog", "cat"),
            "but for punctuation around them: 'dog' and 'dog.' (2 labels); --map",
            (),
            None,
        ),
        (("True", "False", "True"), "or no and yes: 'False' and 'True' (2 labels)", (), None),
        (
            ("16 0", "5", "7 1 2"),
            "several, joined by spaces: '16 0' and '7 1 2' (2 labels); --separator",
            (),
            None,
        ),
        (
            ("a cat", "a dog", "a cat dog", "dog cat", "cat"),
            "labels that look like several, joined by spaces: 'a cat' and 'a cat dog' (4 labels)",
            ("--separator", " "),
            "a,cat",
        ),
    ],
)
def test_odd_labels_are_refused(custom, labels, says, flags, names):
    write("names.txt", "zero\none\ntwo\ndog\nfour\nfive\nsix\ncow\n")
    write("map.csv", "[cat,cat\ndog],dog\n")
    line = error_line(custom("own.csv", *IMAGES, content=table(*labels)))
    assert f"own.csv: {says}" in line or says in line
    check = line.split("--allow ")[1].split()[0]
    assert not Path("data").exists()
    share = ("--test-share", "0.34")
    assert custom("own.csv", *IMAGES, *share, "--allow", f"{check},brackets,numbers").code == 0
    if flags:
        assert labels_of(custom("own.csv", *IMAGES, *share, *flags))["a.jpg"] == names


def test_labels_that_are_not_odd(custom):
    """Several words, apostrophes, hyphens, letters of any language."""
    labels = ("red car;big cat", "red cat", "big car", "red big", "cat car")
    assert custom("own.csv", *IMAGES, content=table(*labels)).code == 0
    labels = ("traffic light", "fire hydrant;stop sign", "Crohn's disease", "T-shirt", "c++;犬", "")
    assert custom("own.csv", *IMAGES, content=table(*labels)).code == 0
    assert "--allow odd: expected binary, brackets" in error_line(
        custom("own.csv", "--allow", "odd")
    )


def test_labels_are_renamed_kept_and_dropped(custom):
    write("map.csv", "old,new\nkitten,cat\n thing ,\nghost,x\n")
    content = table("cat;?kitten", "kitten;thing", "dog;?cat", "dog", "?thing", "cow")
    share = ("--test-share", "0.34")
    result = custom("own.csv", *IMAGES, *share, "--map", "map.csv", content=content)
    found = labels_of(result)
    assert [found[f"{name}.jpg"] for name in "abcdef"] == [
        "cat",
        "cat",
        "?cat,dog",
        "dog",
        "",
        "cow",
    ]
    assert "labels left out (--map): thing (1)" in result.out
    assert "map.csv: 1 of its labels are nowhere: 'ghost'" in result.out
    result = custom("own.csv", *IMAGES, *share, "--keep", "dog,cat")
    assert "labels left out (--keep): cow (1), kitten (1), thing (1)" in result.out
    assert Path("data/mine/label.txt").read_text() == "cat\ndog\n"
    result = custom("own.csv", *IMAGES, *share, "--min-count", "2")
    assert "labels left out (--min-count): cat (1), cow (1), kitten (1), thing (1)" in result.out
    assert "--keep cats: no image has this label; there are dog (2)" in error_line(
        custom("own.csv", "--keep", "cats")
    )
    for text, says in (
        ("a,b,c\n", "map.csv:1: expected old,new; found 3 fields"),
        ("a,b\na,c\n", "map.csv:2: 'a' is a duplicate"),
        ("a,?b\n", "map.csv:1: label '?b'"),
        ('a,"b\n', "map.csv:1: not CSV"),
    ):
        write("map.csv", text)
        assert says in error_line(custom("own.csv", "--map", "map.csv"))


def test_boxes_are_renamed_with_their_labels(custom):
    content = coco()
    for category in content["categories"]:
        category["name"] = category["name"].upper()
    assert custom("own.json", *IMAGES, "--lowercase", "--keep", "cat", content=content).code == 0
    objects = json.loads(Path("data/mine/boxes.json").read_text())
    assert {one["label"] for found in objects.values() for one in found} == {"cat"}


def test_the_summary_shows_how_it_was_read(custom):
    out = custom("own.csv", *IMAGES, content=table("cat;dog", "cat", "", "dog", "cat")).out
    lines = out.splitlines()
    assert lines[0] == "own.csv: read as a CSV table with a row an image"
    assert lines[1] == "own.csv: columns separated by ','; images: 'path'; labels: 'labels'"
    start = lines.index("the first images of train:")
    assert len(lines[start:]) == 5 and lines[-1] == "wrote data/mine"
    assert {"  photos/a.jpg: cat, dog", "  photos/c.jpg: no labels"} & set(lines)


def test_images_of_a_group_stay_together(custom):
    patients = "ppqqrrss"
    rows = "".join(f"{n}.jpg,cat,{p}\n" for n, p in zip("abcdefgh", patients, strict=True))
    share = (*IMAGES, "--test-share", "0.25", "--val", "0.3")
    result = custom("own.csv", *share, "--group", "Patient", content=f"path,labels,patient\n{rows}")
    assert result.code == 0, result.err
    of = dict(zip("abcdefgh", patients, strict=True))
    groups = [
        {of[Path(line.split("\t")[0]).stem] for line in split(n)} for n in ("train", "val", "test")
    ]
    assert [len(one) for one in groups] == [2, 1, 1] and len(set().union(*groups)) == 4
    result = custom("own.csv", *share, "--group", "([a-d]|[e-h])\\.jpg")
    assert "--group ([a-d]|[e-h])\\.jpg: 8 groups of 8 of 8 images" in result.out
    line = error_line(custom("own.csv", *share, "--group", "photos"))
    assert "--test-share 0.25: leaves one part of 8 images in 1 groups empty" in line
    assert "--group (: no column, and not a pattern" in error_line(
        custom("own.csv", "--group", "(")
    )
    assert "no path in which it is found, for example photos/a.jpg" in error_line(
        custom("own.csv", *IMAGES, "--group", "zzz")
    )


def test_versions_of_a_picture_and_copies_stay_together(custom):
    names = []
    for number in range(6):
        for version in range(2):
            names.append(f"p{number}_jpg.rf.{version}{number}ab.jpg")
            picture(f"photos/{names[-1]}", number + version)
    picture("photos/x.jpg", 9)
    picture("photos/y.jpg", 9)  # the same bytes
    rows = "".join(f"{name},cat\n" for name in (*names, "x.jpg", "y.jpg"))
    for seed in range(3):
        result = custom("own.csv", *IMAGES, "--seed", seed, content=f"path,labels\n{rows}")
        assert result.code == 0
        test = [Path(line.split("\t")[0]).name for line in split("test")]
        stems = [name.split("_jpg")[0].replace("y", "x") for name in test]
        assert test and all(stems.count(stem) == 2 for stem in stems)


def test_files_are_found_by_similar_names(custom):
    picture("photos/B1.JPG", 30)
    picture(f"photos/{unicodedata.normalize('NFD', 'café')}.jpg", 31)
    rows = f"b1.jpg,cat\n{unicodedata.normalize('NFC', 'café')}.jpg,dog\nc,cat\nd.jpg,dog\n"
    result = custom("own.csv", *IMAGES, content=f"path,labels\n{rows}")
    assert len(labels_of(result)) == 4
    assert "2 image files found in another letter case or Unicode form, for example" in result.out
    assert "1 image files found with the ending that was missing, for example 'c' is" in result.out
    picture("photos/b1.Jpg", 32)  # no longer unique
    line = error_line(custom("own.csv", *IMAGES))
    assert "1 of 4 images are missing or cannot be read: photos/b1.jpg" in line
    assert "--images" not in line and "pass --skip-missing" in line


def test_a_missing_file_has_a_hint(custom):
    picture("photos/holiday_2023_001.jpg", 20)
    rows = "path,labels\nholiday_2024_001.jpg,cat\na.jpg,dog\n"
    line = error_line(custom("own.csv", *IMAGES, content=rows))
    assert "did you mean 'holiday_2023_001.jpg' for 'holiday_2024_001.jpg'?" in line
    line = error_line(custom("own.csv", content=rows))  # no folder given: it can help
    assert "2 of 2 images are missing" in line and "pass --images with their folder" in line


def test_validation_images_have_their_own_folder(custom):
    picture("other/a.jpg", 40)
    write("val.csv", "path,labels\na.jpg,cat\n")
    flags = ("--val-from", "val.csv", "--val-images", "other")
    assert custom("own.csv", *IMAGES, *flags, content=table("cat", "dog", "cat")).code == 0
    assert split("val") == ["other/a.jpg\tcat"]


def test_boxes_of_the_other_orientation(custom):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 40)).save("photos/a.jpg", exif=exif)  # upright: 40 x 50
    content = coco()
    for image in content["images"]:
        image |= {"width": 40, "height": 50}
    assert custom("own.json", *IMAGES, content=content).code == 0
    content["images"][0] |= {"width": 50, "height": 40}
    line = error_line(custom("own.json", *IMAGES, content=content))
    assert "photos/a.jpg: its annotations say 50 x 40, but the image is 40 x 50 as it is" in line
    assert "pass --exif stored here and to train.py" in line
    assert custom("own.json", *IMAGES, "--exif", "stored").code == 0
    content["images"][0] |= {"width": 40, "height": 50}
    content["images"][1] |= {"width": 50, "height": 40}  # no turn explains it
    line = error_line(custom("own.json", *IMAGES, content=content))
    assert "photos/b.jpg: its annotations say 50 x 40" in line and "it was turned after" in line
    content["images"][1] |= {"width": 80, "height": 100}
    result = custom("own.json", *IMAGES, content=content)
    assert "1 images have another size than their annotations say" in result.out


def test_labels_with_commas_can_be_renamed(custom):
    content = coco()
    content["categories"][0]["name"] = "cat, domestic"
    line = error_line(custom("own.json", *IMAGES, content=content))
    assert "own.json: image 0: label 'cat, domestic': no comma" in line
    assert line.endswith("--map FILE (old,new a line) renames it")
    write("map.csv", '"cat, domestic",cat\n')
    found = labels_of(custom("own.json", *IMAGES, "--map", "map.csv"))
    assert found["a.jpg"] == "cat,dog"


def test_given_splits_that_part_a_group(custom):
    header, rows = "path,labels,patient,split", ("cat,A,train", "dog,A,test", "cat,B,train")
    content = table(*rows, header=header)
    line = error_line(custom("own.csv", *IMAGES, "--group", "patient", content=content))
    assert (
        "--group patient: the splits that are given part 1 groups, such as 'A', which is in" in line
    )
    assert "test and train" in line
    assert custom("own.csv", *IMAGES).code == 0


def test_a_large_group_is_said(custom):
    rows = [f"cat,{'A' if number < 6 else number}" for number in range(8)]
    flags = (*IMAGES, "--group", "who", "--test-share", "0.5")
    result = custom("own.csv", *flags, content=table(*rows, header="path,labels,who"))
    assert "--group who: 3 groups" in result.out
    assert "--test-share 0.5: 2 of 8 images, since groups stay together (the largest has 6)" in (
        result.out
    )


def test_a_listed_folder_that_is_there_is_believed(custom):
    """Another picture of the same name elsewhere is another picture."""
    for number, path in enumerate(("cats/1", "cats/2", "dogs/3")):
        picture(f"set/{path}.jpg", number)
    rows = "path,labels\ncats/1.jpg,cat\ncats/2.jpg,cat\ncats/3.jpg,cat\n"
    line = error_line(custom("own.csv", "--images", "set", content=rows))
    assert "1 of 3 images are missing or cannot be read: set/cats/3.jpg" in line


@pytest.mark.parametrize(
    ("listed", "file"),
    [("7", "000007"), ("7.0", "7"), ("00000007.0", "7"), ("1a2b3c4d-x.jpg", "sub/x")],
)
def test_numbers_and_uploads(custom, listed, file):
    picture(f"set/{file}.jpg")
    picture("set/8.jpg", 3)
    rows = f"id,labels\n{listed},cat\n8,dog\n"
    result = custom("own.csv", "--images", "set", "--test-share", "0.5", content=rows)
    assert labels_of(result)[f"{Path(file).name}.jpg"] == "cat"


def test_a_number_that_two_files_have(custom):
    for number, name in enumerate(("7", "007", "008", "0008")):
        picture(f"set/{name}.jpg", number)
    rows = "id,labels\n7,cat\n007,dog\n8,cat\n"
    line = error_line(custom("own.csv", "--images", "set", content=rows))
    assert "1 of 3 images are missing or cannot be read: set/8" in line


def test_images_with_a_folder_for_each_split(custom):
    for number, folder in enumerate(("train", "test")):
        picture(f"set/{folder}/0.jpg", number)
    rows = "path,labels,split\n0.jpg,cat,train\n"
    write("test.csv", "path,labels\n0.jpg,cat\n")
    result = custom("own.csv", "--test", "test.csv", "--images", "set", content=rows)
    assert result.code == 0 and split("test") == ["set/test/0.jpg\tcat"], result.err
    for folder in ("train", "test"):
        Path(f"set/{folder}/0.jpg").rename(f"set/{folder}.jpg")
    picture("set/0.jpg", 5)
    line = error_line(custom("own.csv", "--test", "test.csv", "--images", "set"))
    assert "is a duplicate of" in line and "--test-images and --val-images name other" in line


def test_labels_of_brackets_with_a_separator(custom):
    content = table('"{cat,dog}"', "[cat]", "{}", "{dog}")
    assert "--separator says" in error_line(custom("own.csv", *IMAGES, content=content))
    found = labels_of(custom("own.csv", *IMAGES, "--separator", ","))
    assert found == {"a.jpg": "cat,dog", "b.jpg": "cat", "c.jpg": "", "d.jpg": "dog"}


def test_allow_can_be_repeated(custom):
    content = table("7;[x", "8", "7", "Cat;cat")
    flags = ("--allow", "numbers", "--allow", "brackets,case")
    assert custom("own.csv", *IMAGES, *flags, content=content).code == 0


def test_labels_in_one_unicode_form_and_with_single_spaces(custom):
    names = (
        unicodedata.normalize("NFD", "Käfer"),
        "Käfer",
        "hot  dog",
        "hot\u00a0dog;x\u200b",
        "x",
    )
    write("order.txt", unicodedata.normalize("NFD", "hot dog\nKäfer\nx\n"))
    result = custom("own.csv", *IMAGES, "--labels", "order.txt", content=table(*names))
    assert result.code == 0, result.err
    assert Path("data/mine/label.txt").read_text() == "hot dog\nKäfer\nx\n"


def test_min_count_counts_positives(custom):
    content = table(*["cat;?fox"] * 6)
    result = custom("own.csv", *IMAGES, "--min-count", "3", content=content)
    assert "labels left out (--min-count): fox (0)" in result.out
    assert Path("data/mine/label.txt").read_text() == "cat\n"


@pytest.mark.parametrize("ending", ["png", ".png", ".PNG"])
def test_endings_with_and_without_a_point(custom, ending):
    for number, name in enumerate(("p.jpg", "p.png", "q.png", "r.png")):
        picture(f"set/{name}", number)
    rows = "id,labels\np,cat\nq,dog\nr,cat\n"
    result = custom("own.csv", "--images", "set", "--extension", ending, content=rows)
    assert set(labels_of(result)) == {"p.png", "q.png", "r.png"}


def test_names_that_are_there_twice_are_said(custom):
    for number, name in enumerate(("a/0", "b/0", "a/1", "b/1")):
        picture(f"set/{name}.jpg", number)
    result = custom("own.csv", "--images", "set", content="path,labels\n0.jpg,cat\n1.jpg,dog\n")
    assert "2 of 2 images are missing" in error_line(result)
    assert "2 names are there several times below --images, for example '0.jpg' at set/a/0.jpg" in (
        result.out
    )


def test_missing_test_images_name_the_flag(custom):
    write("test.csv", "path,labels\nx.jpg,cat\ny.jpg,dog\n")
    flags = (*IMAGES, "--test", "test.csv")
    line = error_line(custom("own.csv", *flags, content=table("cat", "dog", "cat")))
    assert "pass --test-images with the folder of the test images" in line
    for number, name in enumerate("xy"):
        picture(f"other/{name}.jpg", 50 + number)
    assert custom("own.csv", *flags, "--test-images", "other").code == 0


def test_a_group_in_the_path_that_the_source_names(custom):
    rows = [f"C:\\me\\pat_{number // 2}\\{name}.jpg,cat" for number, name in enumerate("abcdefgh")]
    content = "\n".join(["path,labels", *rows])
    for pattern in ("pat_(\\d+)", "me/pat_(\\d+)", "me\\\\pat_(\\d+)"):
        result = custom("own.csv", *IMAGES, "--group", pattern, content=content)
        assert ": 4 groups of 8 of 8 images" in result.out, result.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--labels-column", "a", "--label-columns", "b"), "contradict each other: pass one"),
        (("--test-images", "photos"), "--test-images: has no effect without --test"),
        (("--val-images", "photos"), "--val-images: has no effect without --val-from"),
        (("--group", ""), "--group: must not be empty"),
        (("--separator", ""), "--separator: must not be empty"),
        (("--images", "gone"), "--images gone: no such folder"),
        (("--extension", "a/b"), "must be an ending such as .jpg"),
        (("--blank", "unknown"), "--blank: has no effect on a CSV table with a row an image"),
        (("--not-labels", "x"), "--not-labels: has no effect on a CSV table with a row an image"),
        (("--recursive",), "--recursive: has no effect on a CSV table with a row an image"),
        (("--test", "own.csv", "--test-share", "0.5"), "is a duplicate of"),
    ],
)
def test_flags_without_effect_are_refused(custom, flags, says):
    assert says in error_line(custom("own.csv", *flags, content=table("cat", "dog")))


def test_a_share_beside_given_test_images(custom):
    content = table("cat,train", "dog,test", "cat,train", header="path,labels,split")
    line = error_line(custom("own.csv", *IMAGES, "--test-share", "0.5", content=content))
    assert "--test-share 0.5: there are test images already" in line
