"""Visual Genome 500: names for its numbers, and the data folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data.preparation.splits import indicators
from lib.data.sources.visual_genome import names_by_overlap
from tests.helpers.commands import error_line, run_here

SOURCE = Path("datasets/VisualGenome")
INDEX = {"1.jpg": [0, 499], "2.jpg": [0], "3.jpg": [499, 7], "4.jpg": [7]}


def thing(*names, x=1):
    return {"names": names, "x": x, "y": 2, "w": 10, "h": 20, "object_id": 5, "synsets": []}


OBJECTS = [
    {"image_id": 1, "objects": [thing("Tree", "bush"), thing("Sky", x=3)], "image_url": "u"},
    {"image_id": 2, "objects": [thing("tree"), thing("tree", x=9), thing("a, b")]},
    {"image_id": 3, "objects": [thing("sky")]},
    {"image_id": 4, "objects": [thing("pond")]},
    {"image_id": 99, "objects": [thing("elsewhere")]},
]


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("ssgrl_partition", "VG_100K", "VG_100K_2"):
        (SOURCE / folder).mkdir(parents=True)
    (SOURCE / "ssgrl_partition" / "train_list_500.txt").write_text("3.jpg\n1.jpg\n2.jpg\n")
    (SOURCE / "ssgrl_partition" / "test_list_500.txt").write_text("4.jpg\n")
    write_index(INDEX)
    (SOURCE / "objects.json").write_text(json.dumps(OBJECTS))
    for number, folder in ((1, "VG_100K"), (2, "VG_100K_2"), (3, "VG_100K"), (4, "VG_100K_2")):
        Image.new("RGB", (40, 30)).save(SOURCE / folder / f"{number}.jpg")
    return lambda *flags: run_here(monkeypatch, capsys, "scripts/vg500.py", *flags)


def write_index(index):
    file = SOURCE / "ssgrl_partition" / "vg_category_500_labels_index.json"
    file.write_text(json.dumps(index))


def test_writes_the_contract(here):
    result = here()
    assert result.code == 0, result.err
    data = Path("data/vg500")
    labels = (data / "label.txt").read_text().splitlines()
    assert len(labels) == 500
    assert labels[0] == "tree" and labels[7] == "pond" and labels[499] == "sky"
    source = "datasets/VisualGenome"
    assert (data / "train.txt").read_text() == (
        f"{source}/VG_100K/3.jpg\tpond,sky\n{source}/VG_100K/1.jpg\ttree,sky\n"
        f"{source}/VG_100K_2/2.jpg\ttree\n"
    )
    boxes = json.loads((data / "boxes.json").read_text())
    two = [{"label": "tree", "box": [x, 2, x + 10, 22], "difficult": False} for x in (1, 9)]
    assert boxes[f"{source}/VG_100K_2/2.jpg"] == two
    assert "label 0: tree, overlap 1.000" in result.out
    assert "497 of 500 names overlap by less than 0.5" in result.out


def as_version_1_0(records, text):
    """`id` for `image_id`, and one `name` as text or `names` as a list."""
    for record in records:
        objects = [
            {**{key: one[key] for key in "xywh"}, "id": 9}
            | ({"name": one["names"][0]} if text else {"names": one["names"]})
            for one in record["objects"]
        ]
        yield {"id": record["image_id"], "url": "u", "objects": objects}


def as_version_1_4(records):
    for record in records:
        objects = [
            {**one, "merged_object_ids": [7], "attributes": ["a"]} for one in record["objects"]
        ]
        yield {**record, "objects": objects, "image_url": "u"}


@pytest.mark.parametrize("version", ["1.0, name", "1.0, names", "1.4"])
def test_every_version_of_the_objects(here, version):
    """Objects of one name each, so that all versions say the same."""
    single = json.loads(json.dumps(OBJECTS))
    single[0]["objects"][0]["names"] = ["Tree"]
    (SOURCE / "objects.json").write_text(json.dumps(single))
    assert here().code == 0
    expected = {path.name: path.read_bytes() for path in Path("data/vg500").iterdir()}
    assert b"sky" in expected["train.txt"] and len(json.loads(expected["boxes.json"])) == 4
    if version == "1.4":
        records = list(as_version_1_4(single))
    else:
        records = list(as_version_1_0(single, version == "1.0, name"))
    (SOURCE / "objects.json").write_text(json.dumps(records))
    assert here().code == 0
    assert expected == {path.name: path.read_bytes() for path in Path("data/vg500").iterdir()}


def test_numeric_labels(here):
    assert here("--numeric-labels").code == 0
    data = Path("data/vg500")
    assert (data / "label.txt").read_text().splitlines() == [str(n) for n in range(500)]
    assert (data / "test.txt").read_text().endswith("\t7\n")
    assert not (data / "boxes.json").exists()


def test_names_match_a_slow_twin():
    """Intersection over union, ties alphabetical, a taken name with its number."""
    random = np.random.default_rng(0)
    targets, named = random.random((30, 12)) < 0.3, random.random((30, 8)) < 0.3
    named[:, 5] = named[:, 2]  # a tie
    names = sorted("abcdefgh")
    found = names_by_overlap(
        indicators([np.flatnonzero(row) for row in targets], range(12)),
        names,
        indicators([np.flatnonzero(row) for row in named], range(8)),
    )
    taken = set()
    for column, one in enumerate(found):
        scores = {}
        for number, name in enumerate(names):
            both = (targets[:, column] & named[:, number]).sum()
            scores[name] = both / (targets[:, column] | named[:, number]).sum()
        best = min(names, key=lambda name: (-scores[name], name))
        assert one.object_name == best and one.overlap == pytest.approx(scores[best])
        assert one.label == (f"{best} ({column})" if best in taken else best)
        taken.add(best)
    assert any("(" in one.label for one in found)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({**INDEX, "1.jpg": [500]}, "1.jpg: a label outside 0 to 499"),
        ({"1.jpg": [1]}, "has no labels of 3.jpg"),
        ({**INDEX, "1.jpg": ["tree"]}, "not the JSON that is expected"),
    ],
)
def test_bad_indices_are_named(here, index, says):
    write_index(index)
    line = error_line(here())
    assert says in line and "vg_category_500_labels_index.json" in line


def test_bad_objects_are_named(here):
    (SOURCE / "objects.json").write_text('[{"image_id": 1, "objects": [{}]}]')
    assert "objects.json: not the JSON that is expected" in error_line(here())
    (SOURCE / "objects.json").write_text('[{"image_id": 99, "objects": []}]')
    assert "objects.json: names no object of the listed images" in error_line(here())
    box = '{"x": 1, "y": 2, "w": 3, "h": 4}'
    for record, says in (
        ('{"objects": []}', "[0] has neither image_id nor id"),
        (f'{{"id": 1, "objects": [{box}]}}', "[0] (image 1): an object without names"),
        ('{"id": "1", "objects": []}', "not the JSON that is expected"),
    ):
        (SOURCE / "objects.json").write_text(f"[{record}]")
        assert f"objects.json: {says}" in error_line(here())
    (SOURCE / "objects.json").unlink()
    assert "objects.json: cannot be read" in error_line(here())
