"""scripts/custom.py: labels that it refuses, renames and drops."""

import json
import unicodedata
from pathlib import Path

import pytest

from tests.helpers.annotations import IMAGES, ROWS, coco, table, write

SHARE = ("--test-share", "0.34")


@pytest.mark.parametrize(
    ("labels", "row", "check", "flags", "names"),
    [
        (("[cat", "dog]", "cow"), 2, "brackets", ("--map", "map.csv"), "cat"),
        (('"""cat"""', "'dog'", "cow"), 2, "brackets", (), None),
        (("{cat}", '"{dog,cow}"', "fox"), 3, "brackets", ("--separator", ","), "cat"),
        (("3", "7;3", "x"), 2, "numbers", ("--label-names", "names.txt"), "dog"),
        (("1", "0", "1"), 3, "binary", (), None),
        (("1.0", "0.0", "1.0"), 3, "binary", (), None),
        (("True", "False", "True"), 3, "binary", (), None),
        (("nan", "cat", "dog;nan"), 2, "null", ("--none", "nan"), ""),
        (("cat", "None", "null"), 3, "null", (), None),
        (("\"['cat', nan]\"", "dog", "cow"), 2, "null", ("--none", "NaN"), "cat"),
        (("\"['cat', None]\"", "dog", "cow"), 2, "null", ("--none", "none"), "cat"),
        (("Dog", "dog", "DOG;cat"), 4, "case", ("--lowercase",), "dog"),
        (("dog.", "dog", "cat"), 3, "punctuation", (), None),
        (("16 0", "5", "7 1 2"), 2, "joined", ("--separator", " ", "--allow", "numbers"), "0,16"),
        (
            *(("a cat", "a dog", "a cat dog", "dog cat", "cat"), 2, "joined"),
            *(("--separator", " "), "a,cat"),
        ),
    ],
)
def test_odd_labels_are_refused(custom, labels, row, check, flags, names):
    write("names.txt", "zero\none\ntwo\ndog\nfour\nfive\nsix\ncow\n")
    write("map.csv", "[cat,cat\ndog],dog\n")
    result = custom("own.csv", *IMAGES, content=table(*labels))
    assert result.where == f"own.csv:{row}" and f"--allow {check} " in result.err
    assert not Path("data").exists()
    assert custom("own.csv", *IMAGES, *SHARE, "--allow", f"{check},brackets,numbers").code == 0
    if flags:
        assert custom("own.csv", *IMAGES, *SHARE, *flags).labels["a.jpg"] == names


def test_labels_that_are_not_odd(custom):
    """Several words, apostrophes, hyphens, letters of any language."""
    labels = ("red car;big cat", "red cat", "big car", "red big", "cat car")
    assert custom("own.csv", *IMAGES, content=table(*labels)).code == 0
    labels = ("red", "car", "cat", "dog", "red bus", "cat bus")
    assert custom("own.csv", *IMAGES, content=table(*labels, "dog", "car")).code == 0
    labels = ("traffic light", "fire hydrant;stop sign", "Crohn's disease", "T-shirt", "c++;犬", "")
    assert custom("own.csv", *IMAGES, content=table(*labels)).code == 0
    flags = ("--allow", "numbers", "--allow", "brackets,case")  # can be repeated
    content = table("7;[x", "8", "7", "Cat;cat")
    assert custom("own.csv", *IMAGES, *flags, content=content).code == 0


def test_labels_are_renamed_kept_and_dropped(custom):
    write("map.csv", "old,new\nkitten,cat\n thing ,\nghost,x\n")
    content = table("cat;?kitten", "kitten;thing", "dog;?cat", "dog", "?thing", "cow")
    result = custom("own.csv", *IMAGES, *SHARE, "--map", "map.csv", content=content)
    found = result.labels
    assert [found[f"{name}.jpg"] for name in "abcdef"] == [
        *("cat", "cat", "?cat,dog", "dog", "", "cow")
    ]
    assert result.has("--map", "thing (1)") and result.has("map.csv", "1 of", "ghost")
    result = custom("own.csv", *IMAGES, *SHARE, "--keep", "dog,cat")
    assert result.has("--keep", "cow (1), kitten (1), thing (1)")
    assert Path("data/mine/label.txt").read_text() == "cat\ndog\n"
    result = custom("own.csv", *IMAGES, *SHARE, "--min-count", "2")
    assert result.has("--min-count", "cat (1), cow (1), kitten (1), thing (1)")
    assert custom("own.csv", "--keep", "cats").where == "--keep cats"
    for text, line in (("a,b,c\n", 1), ("a,b\na,c\n", 2), ("a,?b\n", 1), ('a,"b\n', 1)):
        write("map.csv", text)
        assert custom("own.csv", "--map", "map.csv").where == f"map.csv:{line}"
    result = custom("own.csv", *IMAGES, "--min-count", "3", content=table(*["cat;?fox"] * 6))
    assert result.has("fox (0)")  # positives count
    assert Path("data/mine/label.txt").read_text() == "cat\n"


def test_boxes_are_renamed_with_their_labels(custom):
    content = coco()
    for category in content["categories"]:
        category["name"] = category["name"].upper()
    assert custom("own.json", *IMAGES, "--lowercase", "--keep", "cat", content=content).code == 0
    objects = json.loads(Path("data/mine/boxes.json").read_text())
    assert {one["label"] for found in objects.values() for one in found} == {"cat"}


def test_labels_with_commas_can_be_renamed(custom):
    content = coco()
    content["categories"][0]["name"] = "cat, domestic"
    result = custom("own.json", *IMAGES, content=content)
    assert result.has("'cat, domestic' is 'cat domestic'")
    assert result.labels["a.jpg"] == "cat domestic,dog"
    write("map.csv", '"cat, domestic",cat\n')
    assert custom("own.json", *IMAGES, "--map", "map.csv").labels == ROWS


def test_words_for_no_label(custom):
    content = "id,finding labels\na,cat|dog\nb,cat\nc,No Finding\nd,dog\n"
    result = custom("own.csv", *IMAGES, "--none", "no finding", content=content)
    assert result.labels == ROWS and result.has("--none", "No Finding (1)")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("n.txt", "cat\ndog\n"),
        ("n.csv", "attribute_id,attribute_name\n0,cat\n1,dog\n"),
        ("n.json", ["cat", "dog"]),
        ("n.json", {"0": "cat", "1": "dog"}),
        ("n.json", {"cat": 0, "dog": 1}),
        ("n.json", {"id2label": {"0": "cat", "1": "dog"}, "x": 3}),
    ],
)
def test_names_of_numbers(custom, file, content):
    write(file, content)
    numbers = zip("abcd", ([0, 1], 0, [], 1.0), strict=True)
    records = (json.dumps({"file_name": f"{name}.jpg", "label": one}) for name, one in numbers)
    lines = "\n".join(records)
    assert custom("o.jsonl", *IMAGES, "--label-names", file, content=lines).labels == ROWS


@pytest.mark.parametrize(
    ("file", "content"),
    [("n.txt", "cat\n"), ("n.json", {"0": ["cat"]}), ("n.json", {"id2label": 3})],
)
def test_bad_names_of_numbers(custom, file, content):
    write(file, content)
    result = custom("own.csv", *IMAGES, "--label-names", file, content=table("0", "1"))
    assert result.where == file


def test_labels_in_one_unicode_form_and_with_single_spaces(custom):
    names = (
        unicodedata.normalize("NFD", "Käfer"),
        "Käfer",
        "hot  dog",
        "hot\u00a0dog;x\u200b",
        "x",
    )
    write("order.txt", unicodedata.normalize("NFD", "x\nzebra\nhot dog\nKäfer\n"))
    result = custom("own.csv", *IMAGES, "--labels", "order.txt", content=table(*names))
    assert result.code == 0, result.err
    assert Path("data/mine/label.txt").read_text() == "x\nzebra\nhot dog\nKäfer\n"
    assert result.labels["d.jpg"] == "x,hot dog"
    write("order.txt", "x\nKäfer\n")
    assert custom("own.csv", *IMAGES, "--labels", "order.txt").where == "order.txt"
