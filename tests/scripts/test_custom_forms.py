"""Forms of JSON that scripts/custom.py reads, from files as programs write them."""

import json
from pathlib import Path

import pytest

from tests.helpers.annotations import (
    IMAGES,
    PLACES,
    ROWS,
    boxes,
    coco,
    picture,
    pictures,
    split,
    write,
)


def test_ids_of_coco(custom):
    content = coco()
    for kind in (int, str, float, lambda number: f"x{number}"):
        images = [{**image, "id": kind(image["id"])} for image in content["images"]]
        found = [{**one, "image_id": kind(one["image_id"])} for one in content["annotations"]]
        other = coco(images=images, annotations=found)
        assert custom("own.json", *IMAGES, content=other).labels == ROWS
    mixed = coco(images=[{**image, "id": str(image["id"])} for image in content["images"]])
    for one in mixed["annotations"]:
        one["image_id"] = float(one["image_id"])
    Path("own.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(mixed).encode())
    assert custom("own.json", *IMAGES).labels == ROWS
    for number, value in enumerate(([], None, [1, 1, 1, 1])):
        content["annotations"][number] |= {"bbox": value, "iscrowd": [True, 1, None][number]}
    assert custom("own.json", *IMAGES, content=content).labels == ROWS
    assert boxes()["b.jpg"] == [("cat", [1, 1, 2, 2])] and boxes()["a.jpg"] == []


def test_categories_that_no_image_has(custom):
    content = coco()
    content["categories"] += [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 7, "name": "a,b"},
        {"id": 8, "name": "cow"},
    ]
    result = custom("own.json", *IMAGES, content=content)
    assert result.labels == ROWS and result.has("no image", "cow")
    assert result.has("0 'cat'") and result.has("7 'a,b'")
    content["annotations"][0]["category_id"] = 0
    assert custom("own.json", *IMAGES, content=content).where == "own.json"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it["images"][2].pop("file_name"), "image 2"),
        (lambda it: it["annotations"][3].update(bbox="1 2 3 4"), "$.annotations[3].bbox"),
        (lambda it: it["annotations"][3].update(bbox=[1, 2, 3]), "annotations[3]"),
        (lambda it: it["annotations"][0].update(bbox=[1e308, 0, 1e308, 1]), "annotations[0]"),
        (lambda it: it["annotations"][0].update(category_id=9), "annotations[0]"),
        (lambda it: it.pop("images"), "images"),
        (lambda it: it["categories"][1].update(id=1), "categories[1]"),
        (lambda it: it["categories"][1].update(name="cat "), "categories[1]"),
        (lambda it: it["images"][1].update(id=0), "images[1]"),
        (lambda it: it["images"][1].update(file_name=" "), "image 1"),
        (lambda it: it["categories"][0].update(name="?cat"), "image 0"),
    ],
)
def test_an_element_of_coco_that_does_not_fit_is_named(custom, change, said):
    content = coco()
    change(content)
    line = custom("own.json", *IMAGES, content=content).line
    assert "error: own.json: " in line and said in line


def test_annotations_of_unknown_images_and_labels_of_images(custom):
    content = coco()
    content["annotations"].append({"image_id": 99, "category_id": 1})
    line = custom("own.json", *IMAGES, content=content).line
    assert "own.json: annotations[4]: " in line and "--skip-missing" in line
    result = custom("own.json", *IMAGES, "--skip-missing")
    assert result.labels == ROWS and result.has("left out: 1 annotations")
    content = coco(annotations=[])
    for image, numbers in zip(content["images"], ([1, 2], [1], [], [2]), strict=True):
        image["category_ids"] = numbers
    assert custom("own.json", *IMAGES, content=content).labels == ROWS


def test_boxes_without_an_area(custom):
    content = coco()
    content["annotations"][0]["bbox"] = [0, 0, 0, 0]
    content["annotations"][1]["bbox"] = [5, 5, 0, 3]
    result = custom("own.json", *IMAGES, content=content)
    assert result.labels == ROWS and boxes()["a.jpg"] == []
    assert result.has("left out: 1 boxes")


@pytest.mark.parametrize("name", ["_annotations.coco.json", "_classes.csv", "metadata.csv"])
def test_an_export_with_train_valid_and_test(custom, name):
    for number, (folder, image) in enumerate((("train", "a"), ("valid", "b"), ("test", "d"))):
        both = number == 0
        content = coco(images=[{"id": 0, "file_name": f"{image}.jpg"}])
        content["annotations"] = content["annotations"][: 1 + both]
        if name == "_classes.csv":
            content = f"filename,cat,dog\n{image}.jpg,1,{int(both)}\n"
        elif name == "metadata.csv":
            content = f"file_name,labels\n{image}.jpg,cat{';dog' * both}\n"
        write(f"export/{folder}/{name}", content)
        picture(f"export/{folder}/{image}.jpg", number)
    write("export/README.txt", "by a program")
    assert custom("export").labels == {"a.jpg": "cat,dog", "b.jpg": "cat", "d.jpg": "cat"}
    assert split("val") == ["export/valid/b.jpg\tcat"] and len(split("test")) == 1
    assert len(custom("export/train", "--test", "export/test").labels) == 2


def test_hugging_face(custom):
    records = [
        {"file_name": "a.jpg", "labels": ["cat", "dog"]},
        {"file_name": "b.jpg", "tags": "cat"},
        {"file_name": "c.jpg", "objects": {"bbox": [], "categories": []}},
        {"file_name": "d.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["dog"]}},
    ]
    lines = "\n".join(map(json.dumps, records)) + "\n\n"
    assert custom("photos/metadata.jsonl", content=lines).labels == ROWS
    assert custom("photos").labels == ROWS and boxes()["d.jpg"] == [("dog", [1, 2, 4, 6])]
    csv = "file_name,labels\na.jpg,\"['cat', 'dog']\"\nb.jpg,cat\nc.jpg,\nd.jpg,dog\n"
    Path("photos/metadata.jsonl").unlink()
    assert custom("photos/metadata.csv", content=csv).labels == ROWS
    assert custom("photos").labels == ROWS


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[1]", '{"labels": ["cat"]}', '{"file_name": "", "labels": ["cat"]}'),
        *('{"file_name": "a.jpg", "labels": [{}]}', '{"file_name": "a.jpg"}'),
        '{"file_name": "a.jpg", "labels": "cat", "split": "later"}',
        '{"file_name": "a.jpg", "objects": {"bbox": [[1]], "categories": ["dog"]}}',
        '{"file_name": "a.jpg", "objects": {"bbox": [[1]], "categories": []}}',
    ],
)
def test_bad_metadata_is_named(custom, text):
    assert custom("own.jsonl", *IMAGES, content=text).where == "own.jsonl:1"


def test_other_records(custom):
    """Objects as a list, null for no label, a .json list."""
    objects = [{"bbox": [1, 2, 3, 4], "category": "cat"}, {"category": "dog"}]
    records = [
        {"file_name": "a.jpg", "objects": objects},
        {"file_name": "b.jpg", "label": "cat"},
        {"file_name": "c.jpg", "label": None},
        {"file_name": "d.jpg", "label": "dog"},
    ]
    assert custom("own.json", *IMAGES, content=records).labels == ROWS
    assert boxes()["a.jpg"] == [("cat", [1, 2, 4, 6])]
    create_ml = [{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {}}]}]
    assert custom("own.json", *IMAGES, content=create_ml).where == "own.json"


def test_split_folders_in_file_names(custom):
    pictures("set", *PLACES)
    records = (json.dumps({"file_name": f"{place}.jpg", "label": "cat"}) for place in PLACES)
    result = custom("set/metadata.jsonl", content="\n".join(records))
    assert len(result.labels) == 3 and split("test") == ["set/test/c.jpg\tcat"]
    with open("set/metadata.jsonl", "a") as file:  # a split that is named is believed
        file.write('\n{"file_name": "test/d.jpg", "label": "cat", "split": "val"}')
    pictures("set", "test/d")
    assert custom("set", "--test-share", "0.34").code == 0
    assert split("val") == ["set/test/d.jpg\tcat"] and len(split("test")) == 1


def test_fiftyone(custom):
    content = {"classes": ["cat", "dog"], "labels": {"a": [0, 1], "b": "cat", "c": None, "d": 1}}
    pictures("export/data", *"abcd")
    assert custom("export/labels.json", content=content).labels == ROWS
    assert custom("export").labels == ROWS
    assert custom("export", *IMAGES).labels == ROWS and "photos/" in split("train")[0]
    content["labels"]["b"] = {"label": "cat", "confidence": 0.9}
    assert custom("export/labels.json", content=content).labels == ROWS
    content["labels"]["b"] = 7
    line = custom("export/labels.json", content=content).line
    assert "error: export/labels.json: labels['b']: " in line
    assert custom("own.json", content={"labels": [1]}).where == "own.json"
