"""Sources that scripts/custom.py could read wrongly in silence: the right labels, or a question."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.annotations import IMAGES, split, table, write

SHARE = ("--test-share", "0.34")
HOT = ((0, 1, 0), (1, 0, 0), (0, 0, 1), (0, 1, 1))
NAMED = {"a.jpg": "dog", "b.jpg": "cat", "c.jpg": "sofa", "d.jpg": "dog,sofa"}


@pytest.mark.parametrize(
    "form",
    ['"[0, 1, 0]"', '"0,1,0"', "0;1;0", "0 1 0", "[0 1 0]", "[0. 1. 0.]", '"[False, True, False]"']
    + ['"(0, 1, 0)"', "[ 0  1  0 ]", '"-1,1,-1"', '"[-1.0, 1.0, -1.0]"'],
)
def test_lists_of_zeros_and_ones_in_a_cell(custom, form):
    mark = r"False|True|-?[01](?:\.0)?"
    texts = dict(zip((False, True), re.findall(mark, form), strict=False))
    pattern = re.sub(mark, "{}", form)
    cells = [pattern.format(*(texts[bool(one)] for one in row)) for row in HOT]
    write("names.txt", "cat\ndog\nsofa\n")
    flags = (*IMAGES, *SHARE, "--labels-column", "target")
    content = table(*cells, header="image,target")
    result = custom("own.csv", *flags, "--label-names", "names.txt", content=content)
    assert result.labels == NAMED
    line = custom("own.csv", *flags).line
    assert "error: own.csv: " in line and "--label-names" in line


@pytest.mark.parametrize("key", ["target", "targets", "labels"])
def test_lists_of_zeros_and_ones_in_json(custom, key):
    records = [{"img_path": f"{name}.jpg", key: row} for name, row in zip("abcd", HOT, strict=True)]
    for names in (["cat", "dog", "sofa"], {"1": "cat", "2": "dog", "3": "sofa"}):
        write("names.json", names)
        flags = (*IMAGES, *SHARE, "--label-names", "names.json")
        assert custom("own.json", *flags, content=records).labels == NAMED
    write("names.json", ["cat", "dog"])
    assert custom("own.json", *flags).where == "names.json"
    assert custom("own.json", *IMAGES).where == "own.json"
    for record, row in zip(records, HOT, strict=True):
        record[key] = dict(zip(("cat", "dog", "sofa"), row, strict=True))
    assert custom("own.json", *IMAGES, *SHARE, content=records).labels == NAMED


def test_numbers_of_labels_are_no_zeros_and_ones(custom):
    write("names.txt", "cat\ndog\n")
    content = table('"[0, 1]"', '"[1]"', '"[0]"', "[]")
    result = custom("own.csv", *IMAGES, *SHARE, "--label-names", "names.txt", content=content)
    assert list(result.labels.values()) and result.labels["a.jpg"] == "cat,dog"
    assert result.labels["b.jpg"] == "dog" and result.labels["d.jpg"] == ""


@pytest.mark.parametrize("separator", [" ", "/", "+", "_", "-", ":", "#", " & ", " and "])
@pytest.mark.parametrize("more", [(), ("mildew,rot",)])
def test_labels_that_are_joined_of_others(custom, separator, more):
    """Whatever their fraction, and also where other images have several labels."""
    labels = ("scab", "rust", f"scab{separator}rust", "rust", "scab", "healthy", *more)
    content = table(*(f'"{label}"' for label in labels))
    result = custom("own.csv", *IMAGES, content=content)
    assert result.where == "own.csv:4" and f'--separator "{separator}"' in result.err
    result = custom("own.csv", *IMAGES, *SHARE, "--allow", "joined")
    assert result.labels["c.jpg"] == f"scab{separator}rust"
    if not more:
        result = custom("own.csv", *IMAGES, *SHARE, "--separator", separator)
        assert result.labels["c.jpg"] == "rust,scab" and result.labels["b.jpg"] == "rust"


def test_labels_in_two_orders(custom):
    content = table("horse person", "person horse", "dog", "dog", "dog", "dog", "dog")
    assert custom("own.csv", *IMAGES, content=content).where == "own.csv:2"
    result = custom("own.csv", *IMAGES, *SHARE, "--separator", " ")
    assert result.labels["a.jpg"] == result.labels["b.jpg"] == "horse,person"


def test_joined_labels_of_other_forms_are_split(custom):
    """The flag that the refusal names has an effect there, and boxes stay."""
    images = [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate("abc")]
    categories = [{"id": n, "name": name} for n, name in enumerate(("cat", "dog", "cat/dog"))]
    annotations = [{"image_id": n, "category_id": n, "bbox": [1, 1, 5, 5]} for n in range(3)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    assert '--separator "/"' in custom("own.json", *IMAGES, content=content).line
    result = custom("own.json", *IMAGES, *SHARE, "--separator", "/")
    assert result.labels == {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "cat,dog"}
    boxes = json.loads(Path("data/mine/boxes.json").read_text())["photos/c.jpg"]
    assert [one["label"] for one in boxes] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("cell", "flags"),
    [
        ("dog:0.9 cat:0.3", ("--separator", " ")),
        ("dog:0.9;cat:0.3", ()),
        ("dog (0.9)|cat (0.3)", ()),
        ("dog=1.0;cat=0.0", ()),
        ("dog:1 cat:0", ("--separator", " ")),
    ],
)
def test_labels_with_scores(custom, cell, flags):
    content = table(cell, "dog", "cow", "cow")
    result = custom("own.csv", *IMAGES, content=content)
    assert result.where == "own.csv:2" and "--min-confidence" in result.err
    result = custom("own.csv", *IMAGES, *SHARE, *flags, "--min-confidence", "0.5")
    assert result.labels["a.jpg"] == "dog"
    records = [{"file_name": "a.jpg", "labels": {"dog": 0.9, "cat": 0.3}}]
    records += [{"file_name": "b.jpg", "labels": ["cow"]}]
    assert custom("o.json", *IMAGES, content=records).where == "o.json"
    result = custom("o.json", *IMAGES, *SHARE, "--min-confidence", "0.5")
    assert result.labels["a.jpg"] == "dog"


@pytest.mark.parametrize(
    ("header", "values", "expected"),
    [
        ("is_train", "1110", "train train train test"),
        ("isTrain", ("True", "False", "True", "True"), "train test train train"),
        ("Is Test", ("0.0", "1.0", "0.0", "0.0"), "train test train train"),
        ("train", "1101", "train train test train"),
        ("test", ("no", "no", "yes", "no"), "train train test train"),
        ("phase", ("train", "val", "test", "train"), "train val test train"),
        ("Usage", ("Training", "PublicTest", "PrivateTest", "Training"), "train val test train"),
        ("partition", ("train", "TEST", "Train", "train"), "train test train train"),
        ("fold", ("test", "train", "train", "dev"), "test train train val"),
        ("dataset", ("train", "train", "valid", "test"), "train train val test"),
        ("purpose of it", ("train", "train", "valid", "test"), "train train val test"),
        ("is_train,is_valid", ("1,0", "0,1", "0,0", "1,0"), "train val test train"),
        ("train,val,test", ("1,0,0", "0,1,0", "0,0,1", "1,0,0"), "train val test train"),
    ],
)
@pytest.mark.parametrize("kind", ["marks", "labels", "json"])
def test_splits_that_are_given(custom, header, values, expected, kind):
    labels = ("cat", "dog", "dog", "cat")
    if kind == "json":
        names = header.split(",")
        records = [
            {"file_name": f"{name}.jpg", "labels": [label], **dict(zip(names, cells, strict=True))}
            for name, label, cells in zip(
                "abcd", labels, (value.split(",") for value in values), strict=True
            )
        ]
        result = custom("own.json", *IMAGES, *SHARE[:0], content=records)
    else:
        cells = [
            ("1,0" if label == "cat" else "0,1") if kind == "marks" else label for label in labels
        ]
        rows = (f"{value},{cell}" for value, cell in zip(values, cells, strict=True))
        content = table(*rows, header=f"path,{header},{'cat,dog' if kind == 'marks' else 'labels'}")
        result = custom("own.csv", *IMAGES, content=content)
    assert result.labels == dict(zip(("a.jpg", "b.jpg", "c.jpg", "d.jpg"), labels, strict=True))
    for row, name in enumerate(expected.split()):
        assert any("abcd"[row] + ".jpg" in line for line in split(name)), (name, row)


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("partition", "0012"),
        ("phase", ("train", "later", "test", "train")),
        ("is_train", ("1", "maybe", "0", "1")),
        ("is_train,is_test", ("1,1", "0,1", "0,1", "1,0")),
        ("train,val,test", ("0,0,0", "0,1,0", "0,0,1", "1,0,0")),
    ],
)
def test_splits_that_are_none(custom, header, values):
    rows = (f"{value},cat" for value in values)
    result = custom("own.csv", *IMAGES, content=table(*rows, header=f"path,{header},labels"))
    assert result.code == 2 and result.where.startswith("own.csv:")


def test_a_train_among_vehicles_is_a_label(custom):
    content = table("1,0", "0,1", "1,1", "0,1", header="path,train,bus")
    assert custom("own.csv", *IMAGES, *SHARE, content=content).labels["c.jpg"] == "bus,train"
    content = table("1,0,1", "0,1,0", "1,1,0", "0,1,1", header="path,train,cat,dog")
    flags = (*IMAGES, *SHARE, "--label-columns", "train,cat,dog")
    assert custom("own.csv", *flags, content=content).labels["a.jpg"] == "dog,train"


@pytest.mark.parametrize(
    "name", ["is_deleted", "isDeleted", "user_id", "date", "rating", "fold", "reviewed", "has_text"]
)
def test_columns_that_are_no_labels(custom, name):
    content = table("1,0,1", "0,1,0", "1,1,0", "0,1,1", header=f"path,cat,{name},dog")
    result = custom("own.csv", *IMAGES, content=content)
    assert result.where == "own.csv:1" and f"--not-labels {name}" in result.err
    left = custom("own.csv", *IMAGES, *SHARE, "--not-labels", name).labels
    assert left["c.jpg"] == "cat" and left["b.jpg"] == ""
    taken = custom("own.csv", *IMAGES, *SHARE, "--allow", "columns").labels
    assert set(taken["c.jpg"].split(",")) == {"cat", name}
    content = table("1,0,1", "0,1,0", "1,1,0", header="path,is_cat,has_dog,is_cow")
    assert custom("own.csv", *IMAGES, *SHARE, content=content).labels["c.jpg"] == "has_dog,is_cat"


def test_a_comma_in_a_name_beside_a_stronger_separator(custom):
    cells = ['"pasture|farms, with trees"'] * 3 + ["pasture", "lake;pasture"]
    result = custom("own.csv", *IMAGES, *SHARE, content=table(*cells))
    assert result.labels["a.jpg"] == "farms with trees,pasture"
    assert result.labels["e.jpg"] == "lake,pasture"
    assert result.has("'farms, with trees' is 'farms with trees'")
    cells = ['"dog, cat"', "dog;cow", "cat"]  # perhaps two labels
    result = custom("own.csv", *IMAGES, content=table(*cells))
    assert result.where == "own.csv:2" and "--separator ';'" in result.err
    assert custom("own.csv", *IMAGES, *SHARE, "--separator", ";").code == 2  # joined, then


@pytest.mark.parametrize(
    ("flag", "file", "content"),
    [
        ("--label-names", "n.csv", '0,pasture\n1,"farms, with trees"\n'),
        ("--label-names", "n.csv", "0;pasture\n1;farms, with trees\n"),
        ("--label-names", "n.txt", "pasture\nfarms, with trees\n"),
        ("--label-names", "n.json", ["pasture", "farms, with trees"]),
        ("--class-descriptions", "n.csv", '/m/0,pasture\n/m/1,"farms, with trees"\n'),
        ("--map", "n.csv", '0,pasture\n1,"farms, with trees"\n'),
        ("--map", "n.tsv", "0\tpasture\n1\tfarms, with trees\n"),
    ],
)
def test_names_with_a_comma(custom, flag, file, content):
    write(file, content)
    codes = [f"/m/{n}" if "class" in flag else f"{n}" for n in (0, 1, 0)]
    result = custom("own.csv", *IMAGES, *SHARE, flag, file, content=table(*codes))
    assert result.labels == {"a.jpg": "pasture", "b.jpg": "farms with trees", "c.jpg": "pasture"}
    assert result.has("'farms, with trees' is 'farms with trees'")


@pytest.mark.parametrize(
    "cells",
    [
        [f"word{n} other{n}" for n in range(6)],
        [f"tag{n};more{n}" for n in range(6)],
        ["a dog on a sofa", "a dog on a sofa"] + [f"caption number {n}" for n in range(6, 12)],
    ],
)
def test_a_label_of_its_own_for_each_image(custom, cells):
    result = custom("own.csv", *IMAGES, content=table(*cells))
    unique = "tag" in cells[0] or "word" in cells[0]
    assert result.where.startswith("own.csv:") and (not unique or "--allow unique" in result.err)
    if unique:
        assert custom("own.csv", *IMAGES, content=table(*cells[:5])).code == 0
        assert custom("own.csv", *IMAGES, "--allow", "unique", content=table(*cells)).code == 0


def test_confidence_with_fractions(custom):
    rows = ((1, 0.9), (1, 0.3), (2, 0.5), (2, 0.05), (1, 0))
    text = "".join(
        f"{name},machine,/m/{code},{sure}\n"
        for name, (code, sure) in zip("aabbc", rows, strict=True)
    )
    content = f"ImageID,Source,LabelName,Confidence\n{text}d,machine,/m/1,0.49\n"
    write("names.csv", "/m/1,cat\n/m/2,dog\n")
    flags = (*IMAGES, *SHARE, "--class-descriptions", "names.csv")
    result = custom("own.csv", *flags, content=content)
    assert result.labels == {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "", "d.jpg": ""}
    assert result.has("0.5", "--min-confidence")
    result = custom("own.csv", *flags, "--min-confidence", "0.4", "--blank", "unknown")
    expected = {"a.jpg": "cat,?dog", "b.jpg": "?cat,dog", "c.jpg": "?dog", "d.jpg": "cat,?dog"}
    assert result.labels == expected
    labels = {"a": {"label": "cat", "confidence": 0.9}, "b": {"label": "cat", "confidence": 0.2}}
    result = custom("labels.json", *IMAGES, *SHARE, content={"labels": labels})
    assert result.labels == {"a.jpg": "cat", "b.jpg": ""}


@pytest.mark.parametrize(
    "column", [("0.7", "0.2", "0", "1"), ("0", "2", "1", "0"), ("0.9", "0.1", "0.8", "0.3")]
)
def test_a_column_of_other_numbers_is_named(custom, column):
    rows = (f"{n % 2},{text},{n // 2}" for n, text in enumerate(column))
    content = table(*rows, header="path,cat,bird,dog")
    result = custom("own.csv", *IMAGES, content=content)
    assert result.where.startswith("own.csv:") and "'bird'" in result.err
    result = custom("own.csv", *IMAGES, *SHARE, "--min-confidence", "0.5")
    birds = {name for name, names in result.labels.items() if "bird" in names}
    assert birds == {
        f"{name}.jpg" for name, text in zip("abcd", column, strict=True) if float(text) >= 0.5
    }
    assert custom("own.csv", *IMAGES, *SHARE, "--not-labels", "bird").code == 0


def test_numbers_as_the_key_of_images(custom):
    for name in "ab":
        Path(f"photos/{name}.jpg").rename(f"photos/{'ab'.index(name) + 12}.jpg")
    records = [{"image_id": 12, "labels": ["cat"]}, {"image_id": 13, "labels": ["dog"]}]
    flags = (*IMAGES, "--test-share", "0.5", "--extension", ".jpg")
    for given in ((), ("--path-column", "image_id")):
        result = custom("own.json", *flags, *given, content=records)
        assert result.labels == {"12.jpg": "cat", "13.jpg": "dog"}
    records = [{"id": 1, "photo": f"{name}.jpg", "labels": ["cat"]} for name in ("12", "13")]
    assert custom("own.json", *IMAGES, content=records).where == "own.json"
    assert custom("own.json", *flags, "--path-column", "photo").code == 0
