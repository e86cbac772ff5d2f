"""Annotation files and pictures that tests write, and what scripts/custom.py made of them."""

import json
from pathlib import Path

from PIL import Image

from tests.helpers.commands import Result, error_line, error_where

IMAGES = ("--images", "photos")
PLACES = ("train/a", "train/b", "test/c")
ROWS = {"a.jpg": "cat,dog", "b.jpg": "cat", "c.jpg": "", "d.jpg": "dog"}  # as `Made.labels`


def picture(path, number=0, size=(40, 50)):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (20 * number, 0, 0)).save(path)


def pictures(folder, *names):
    """A picture of its own colour for each name."""
    for number, name in enumerate(names):
        picture(f"{folder}/{name}.jpg", number)


def write(path, content):
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def table(*labels, header="path,labels"):
    """A table of photos/a.jpg, b.jpg and so on, with these cells."""
    rows = (f"{name}.jpg,{text}" for name, text in zip("abcdefgh", labels, strict=False))
    return "\n".join([header, *rows])


def split(name):
    file = Path(f"data/mine/{name}.txt")
    return file.read_text().splitlines() if file.exists() else []


def boxes():
    """File name -> label and box of each object."""
    found = json.loads(Path("data/mine/boxes.json").read_text())
    return {Path(path).name: [(o["label"], o["box"]) for o in found[path]] for path in found}


class Made(Result):
    """What scripts/custom.py said and wrote."""

    @property
    def labels(self):
        """File name -> what its line says, over all splits."""
        assert self.code == 0, self.err
        lines = (line.partition("\t") for name in ("train", "val", "test") for line in split(name))
        return {Path(path).name: names for path, _, names in lines}

    @property
    def line(self):
        return error_line(self)

    @property
    def where(self):
        return error_where(self)

    def has(self, *parts):
        """Whether a line of what was printed has all of these numbers and names."""
        return any(all(part in line for part in parts) for line in self.out.splitlines())


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
