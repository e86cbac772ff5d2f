"""MS-COCO: from official files to the data folder."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import error_line, error_where, run_here

CATEGORIES = [{"id": 9, "name": "person"}, {"id": 3, "name": "hot dog"}]
SOURCE = Path("datasets/MSCOCO")
TRAIN = SOURCE / "annotations" / "instances_train2014.json"
DATA = Path("data/mscoco")


def annotation(image, category, crowd=0):
    box = {"bbox": [1, 2, 10, 20.5], "segmentation": [[0.5] * 6]}
    return {"image_id": image, "category_id": category, "iscrowd": crowd, **box}


def write_split(name, ids, annotations, categories=CATEGORIES, prefix="COCO_{}_"):
    names = [f"{prefix.format(name)}{id:012d}.jpg" for id in ids]
    images = [
        {"id": id, "file_name": file, "license": 1} for id, file in zip(ids, names, strict=True)
    ]
    (SOURCE / name).mkdir(parents=True, exist_ok=True)
    (SOURCE / "annotations").mkdir(exist_ok=True)
    for file in names:
        Image.new("RGB", (40, 30)).save(SOURCE / name / file)
    content = {"images": images, "annotations": annotations, "categories": categories, "info": {}}
    (SOURCE / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    annotations = [annotation(7, 3), annotation(7, 3), annotation(7, 9), annotation(4, 9, crowd=1)]
    write_split("train2014", [7, 5, 4], annotations)
    write_split("val2014", [6], [annotation(6, 3)])
    return lambda *flags: run_here(monkeypatch, capsys, "scripts/mscoco.py", *flags)


def test_writes_the_contract(here):
    result = here()
    assert result.code == 0 and "left out: 1 (no annotations)" in result.out, result.err
    assert (DATA / "label.txt").read_text() == "person\nhot dog\n"
    image = "datasets/MSCOCO/train2014/COCO_train2014_00000000000"
    expected = f"{image}4.jpg\tperson\n{image}7.jpg\tperson,hot dog\n"
    assert (DATA / "train.txt").read_text() == expected
    boxes = json.loads((DATA / "boxes.json").read_text())
    assert boxes[f"{image}4.jpg"] == []
    found = {"label": "hot dog", "box": [1, 2, 11, 22.5], "difficult": False}
    assert boxes[f"{image}7.jpg"][0] == found
    (SOURCE / "images").mkdir()
    for name in ("train2014", "val2014"):
        (SOURCE / name).rename(SOURCE / "images" / name)
    assert here().code == 0  # where some archives put them
    assert (DATA / "train.txt").read_text() == expected.replace("MSCOCO/", "MSCOCO/images/")


def test_the_year_2017(here):
    """Beside 2014 in the same folder; its files have no prefix."""
    for name, ids in (("train2017", [9, 8]), ("val2017", [3])):
        write_split(name, ids, [annotation(ids[0], 3)], prefix="")
    assert here("--year", "2017").code == 0
    train = Path("data/mscoco2017/train.txt").read_text()
    assert train == "datasets/MSCOCO/train2017/000000000009.jpg\thot dog\n"
    test = Path("data/mscoco2017/test.txt").read_text()
    assert test == "datasets/MSCOCO/val2017/000000000003.jpg\thot dog\n"
    assert here("--year", "2017", "--save-dir", "data/other").code == 0
    assert Path("data/other/train.txt").read_text() == train
    assert not DATA.exists() and here().code == 0 and DATA.exists()
    result = here("--year", "2017", "--data-dir", "gone")
    assert error_where(result) == "gone/annotations/instances_train2017.json"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it["annotations"].append(annotation(7, 8)), f"{TRAIN}: annotations[4]: "),
        (lambda it: it["annotations"].append(annotation(8, 9)), f"{TRAIN}: annotations[4]: "),
        (lambda it: it["annotations"][0].pop("image_id"), "$.annotations[0]"),
        (lambda it: it["annotations"][0].update(bbox=[1, 2]), f"{TRAIN}: annotations[0]: "),
        (lambda it: it.pop("images"), f"{TRAIN}: "),
        (lambda it: it["images"][2].update(file_name="gone.jpg"), "train2014/gone.jpg"),
        (lambda it: it["categories"].reverse(), "instances_val2014.json: "),
        (lambda it: it["categories"][0].update(name="hot dog"), f"{TRAIN}: categories[1]: "),
        (lambda it: it["images"].extend([{"id": n, "file_name": "x"} for n in "aa"]), "images[4]"),
    ],
)
def test_bad_annotations_are_named(here, change, said):
    content = json.loads(TRAIN.read_text())
    change(content)
    TRAIN.write_text(json.dumps(content))
    assert said in error_line(here()) and not DATA.exists()


@pytest.mark.parametrize("content", [b'{"images": [', b"\xff\xfe", b"[1]", b"", None])
def test_damaged_json_is_named(here, content):
    TRAIN.write_bytes(content) if content is not None else TRAIN.unlink()
    assert error_where(here()) == str(TRAIN)


def test_a_category_that_is_no_label(here):
    for name in ("train2014", "val2014"):
        write_split(name, [6], [annotation(6, 3)], [{"id": 9, "name": "a,b"}, CATEGORIES[1]])
    assert error_where(here()) == "label"


@pytest.mark.skipif(
    not (Path(os.environ.get("SAMPLES_DIR", "")) / "MSCOCO" / "annotations").is_dir(),
    reason="SAMPLES_DIR is not set to a folder with MSCOCO",
)
def test_real_annotations(tmp_path, monkeypatch, capsys):
    source = Path(os.environ["SAMPLES_DIR"]).resolve() / "MSCOCO"
    monkeypatch.chdir(tmp_path)
    flags = ("scripts/mscoco.py", "--data-dir", source, "--check-images")
    outputs = []
    for _ in range(2):
        assert run_here(monkeypatch, capsys, *flags).code == 0
        outputs.append({path.name: path.read_bytes() for path in DATA.iterdir()})
    assert outputs[0] == outputs[1]
    assert len(outputs[0]["label.txt"].splitlines()) == 80
    assert len(outputs[0]["train.txt"].splitlines()) > 100
