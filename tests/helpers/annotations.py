"""Annotation files and pictures that tests write, and what scripts/custom.py made of them."""

import json
from pathlib import Path

from PIL import Image

IMAGES = ("--images", "photos")


def picture(path, number=0, size=(40, 50)):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (20 * number, 0, 0)).save(path)


def write(path, content):
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def labels_of(result):
    """File name -> what its line says, over all splits."""
    assert result.code == 0, result.err
    lines = [line for name in ("train", "val", "test") for line in split(name)]
    return {Path(path).name: names for path, _, names in (line.partition("\t") for line in lines)}


def split(name):
    file = Path(f"data/mine/{name}.txt")
    return file.read_text().splitlines() if file.exists() else []


def boxes():
    found = json.loads(Path("data/mine/boxes.json").read_text())
    return {Path(path).name: [(o["label"], o["box"]) for o in found[path]] for path in found}


def coco(**parts):
    return {
        "images": [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate("abcd")],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": image, "category_id": label, "bbox": [1, 2, 3, 4.5], "iscrowd": False}
            for image, label in ((0, 1), (0, 2), (1, 1), (3, 2))
        ],
        **parts,
    }
