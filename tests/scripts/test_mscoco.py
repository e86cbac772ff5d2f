"""MS-COCO: from official files to the data folder."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import error_line, run_here

CATEGORIES = [{"id": 9, "name": "person"}, {"id": 3, "name": "hot dog"}]


def annotation(image, category, crowd=0, box=(1, 2, 10, 20.5)):
    return {
        "image_id": image,
        "category_id": category,
        "iscrowd": crowd,
        "bbox": list(box),
        "segmentation": [[0.5] * 6],
    }


def write_split(source, name, ids, annotations, categories=CATEGORIES):
    images = [{"id": id, "file_name": f"COCO_{name}_{id:012d}.jpg", "license": 1} for id in ids]
    (source / name).mkdir(parents=True, exist_ok=True)
    (source / "annotations").mkdir(exist_ok=True)
    for image in images:
        Image.new("RGB", (40, 30)).save(source / name / image["file_name"])
    content = {"images": images, "annotations": annotations, "categories": categories, "info": {}}
    (source / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "datasets" / "MSCOCO"
    annotations = [annotation(7, 3), annotation(7, 3), annotation(7, 9), annotation(4, 9, crowd=1)]
    write_split(source, "train2014", [7, 5, 4], annotations)
    write_split(source, "val2014", [6], [annotation(6, 3)])
    return lambda *flags: run_here(monkeypatch, capsys, "scripts/mscoco.py", *flags)


SOURCE = Path("datasets/MSCOCO")
TRAIN = SOURCE / "annotations" / "instances_train2014.json"


def test_writes_the_contract(here):
    result = here()
    assert result.code == 0, result.err
    data = Path("data/mscoco")
    assert (data / "label.txt").read_text() == "person\nhot dog\n"
    image = "datasets/MSCOCO/train2014/COCO_train2014_00000000000"
    expected = f"{image}4.jpg\tperson\n{image}7.jpg\tperson,hot dog\n"
    assert (data / "train.txt").read_text() == expected
    boxes = json.loads((data / "boxes.json").read_text())
    assert boxes[f"{image}4.jpg"] == []
    assert boxes[f"{image}7.jpg"][0] == {
        "label": "hot dog",
        "box": [1, 2, 11, 22.5],
        "difficult": False,
    }
    assert "left out: 1 (no annotations)" in result.out


def test_the_year_2017(here):
    """Beside 2014 in the same folder; its files have no prefix."""
    for name, ids in (("train2017", [9, 8]), ("val2017", [3])):
        write_split(SOURCE, name, ids, [annotation(ids[0], 3)])
        file = SOURCE / "annotations" / f"instances_{name}.json"
        file.write_text(file.read_text().replace(f"COCO_{name}_", ""))
        for image in (SOURCE / name).iterdir():
            image.rename(image.with_name(image.name.removeprefix(f"COCO_{name}_")))
    result = here("--year", "2017")
    assert result.code == 0 and "wrote data/mscoco2017" in result.out, result.err
    images = "datasets/MSCOCO"
    train = Path("data/mscoco2017/train.txt").read_text()
    assert train == f"{images}/train2017/000000000009.jpg\thot dog\n"
    test = Path("data/mscoco2017/test.txt").read_text()
    assert test == f"{images}/val2017/000000000003.jpg\thot dog\n"
    assert here("--year", "2017", "--save-dir", "data/other").code == 0
    assert Path("data/other/train.txt").read_text() == train
    assert not Path("data/mscoco").exists() and here().code == 0 and Path("data/mscoco").exists()
    assert "instances_train2017.json: no such file" in error_line(
        here("--year", "2017", "--data-dir", "gone")
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda it: it["annotations"].append(annotation(7, 8)), "category_id 8 is no category"),
        (lambda it: it["annotations"].append(annotation(8, 9)), "annotations[4]: image_id 8 is no"),
        (lambda it: it["annotations"][0].pop("image_id"), "image_id` - at `$.annotations[0]`"),
        (lambda it: it["annotations"][0].update(bbox=[1, 2]), "annotations[0]: bbox is not x"),
        (lambda it: it.pop("images"), "images"),
        (lambda it: it["images"][2].update(file_name="gone.jpg"), "train2014/gone.jpg"),
    ],
)
def test_bad_annotations_are_named(here, change, says):
    here()
    before = {path.name: path.read_bytes() for path in Path("data/mscoco").iterdir()}
    content = json.loads(TRAIN.read_text())
    change(content)
    TRAIN.write_text(json.dumps(content))
    assert says in error_line(here())
    assert before == {path.name: path.read_bytes() for path in Path("data/mscoco").iterdir()}


@pytest.mark.parametrize("content", [b'{"images": [', b"\xff\xfe", b"[1]", b""])
def test_damaged_json_is_named(here, content):
    TRAIN.write_bytes(content)
    assert "instances_train2014.json: not the JSON that is expected" in error_line(here())


@pytest.mark.parametrize(("name", "says"), [("a,b", "no comma"), ("hot dog", "duplicate label")])
def test_categories_that_are_no_labels(here, name, says):
    categories = [{"id": 9, "name": name}, CATEGORIES[1]]
    for split in ("train2014", "val2014"):
        write_split(SOURCE, split, [6], [annotation(6, 3)], categories)
    assert says in error_line(here())


def test_other_categories_in_the_test_part(here):
    write_split(SOURCE, "val2014", [6], [annotation(6, 3)], CATEGORIES[::-1])
    assert "other categories than in the train annotations" in error_line(here())
    TRAIN.unlink()
    assert "instances_train2014.json: no such file; --data-dir" in error_line(here())


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
        outputs.append({path.name: path.read_bytes() for path in Path("data/mscoco").iterdir()})
    assert outputs[0] == outputs[1]
    assert len(outputs[0]["label.txt"].splitlines()) == 80
    assert len(outputs[0]["train.txt"].splitlines()) > 100
