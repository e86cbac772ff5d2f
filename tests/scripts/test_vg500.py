"""Visual Genome 500: names for its numbers, and the data folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data.preparation.splits import indicators
from lib.data.sources.visual_genome import names_by_overlap
from tests.helpers.commands import error_where, run_here

SOURCE, DATA = Path("datasets/VisualGenome"), Path("data/vg500")
INDEX = {"1.jpg": [0, 499], "2.jpg": [0], "3.jpg": [499, 7], "4.jpg": [7]}
INDEX_FILE = SOURCE / "ssgrl_partition" / "vg_category_500_labels_index.json"


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
    INDEX_FILE.write_text(json.dumps(INDEX))
    (SOURCE / "objects.json").write_text(json.dumps(OBJECTS))
    for number, folder in ((1, "VG_100K"), (2, "VG_100K_2"), (3, "VG_100K"), (4, "VG_100K_2")):
        Image.new("RGB", (40, 30)).save(SOURCE / folder / f"{number}.jpg")
    return lambda *flags: run_here(monkeypatch, capsys, "scripts/vg500.py", *flags)


def test_writes_the_contract(here):
    result = here()
    assert result.code == 0, result.err
    labels = (DATA / "label.txt").read_text().splitlines()
    assert len(labels) == 500
    assert labels[0] == "tree" and labels[7] == "pond" and labels[499] == "sky"
    source = "datasets/VisualGenome"
    assert (DATA / "train.txt").read_text() == (
        f"{source}/VG_100K/3.jpg\tpond,sky\n{source}/VG_100K/1.jpg\ttree,sky\n"
        f"{source}/VG_100K_2/2.jpg\ttree\n"
    )
    boxes = json.loads((DATA / "boxes.json").read_text())
    two = [{"label": "tree", "box": [x, 2, x + 10, 22], "difficult": False} for x in (1, 9)]
    assert boxes[f"{source}/VG_100K_2/2.jpg"] == two
    assert "label 0: tree, overlap 1.000" in result.out and "497 of 500 names" in result.out
    assert here("--numeric-labels").code == 0
    assert (DATA / "label.txt").read_text().split() == [str(number) for number in range(500)]
    assert (DATA / "test.txt").read_text().endswith("\t7\n")
    assert not (DATA / "boxes.json").exists()


@pytest.mark.parametrize("version", ["1.0, name", "1.0, names", "1.4"])
def test_every_version_of_the_objects(here, version):
    """Objects of one name each, so that all versions say the same. Version 1.0 has `id` for
    `image_id`, and one `name` as text or `names` as a list."""
    single = json.loads(json.dumps(OBJECTS))
    single[0]["objects"][0]["names"] = ["Tree"]
    (SOURCE / "objects.json").write_text(json.dumps(single))
    assert here().code == 0
    expected = {path.name: path.read_bytes() for path in DATA.iterdir()}
    assert b"sky" in expected["train.txt"] and len(json.loads(expected["boxes.json"])) == 4
    for record in single:
        if version != "1.4":
            record["id"] = record.pop("image_id")
        for one in record["objects"]:
            one |= {"merged_object_ids": [7], "attributes": ["a"]} if version == "1.4" else {}
            if version == "1.0, name":
                one["name"] = one.pop("names")[0]
    (SOURCE / "objects.json").write_text(json.dumps(single))
    assert here().code == 0
    assert expected == {path.name: path.read_bytes() for path in DATA.iterdir()}


def test_names_match_a_slow_twin():
    """Intersection over union, ties alphabetical, a taken name with its number."""
    random = np.random.default_rng(0)
    targets, named = random.random((30, 12)) < 0.3, random.random((30, 8)) < 0.3
    named[:, 5] = named[:, 2]  # a tie
    names = sorted("abcdefgh")
    sparse = [indicators(map(np.flatnonzero, one), range(one.shape[1])) for one in (targets, named)]
    found = names_by_overlap(sparse[0], names, sparse[1])
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
    ("file", "text"),
    [
        *((INDEX_FILE, json.dumps({**INDEX, "1.jpg": one})) for one in ([500], [-1], ["tree"])),
        (INDEX_FILE, '{"1.jpg": [1]}'),
        (SOURCE / "objects.json", '[{"image_id": 1, "objects": [{}]}]'),
        (SOURCE / "objects.json", '[{"image_id": 99, "objects": []}]'),
        (SOURCE / "objects.json", '[{"id": "1", "objects": []}]'),
        (SOURCE / "objects.json", None),
        (SOURCE / "ssgrl_partition" / "test_list_500.txt", ""),
    ],
)
def test_bad_files_are_named(here, file, text):
    file.write_text(text) if text is not None else file.unlink()
    assert error_where(here()) == str(file)
