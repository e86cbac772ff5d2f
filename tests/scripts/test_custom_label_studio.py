"""Exports of Label Studio that scripts/custom.py reads."""

from tests.helpers.annotations import IMAGES, ROWS, boxes


def studio(image, *annotators):
    return {
        "id": 1,
        "data": {"image": image, "patient": image[0]},
        "annotations": [{"result": results, "was_cancelled": False} for results in annotators],
        "predictions": [{"result": [choices("bird")]}],
    }


def choices(*names):
    return {"type": "choices", "from_name": "c", "value": {"choices": list(names)}}


def rectangle(label, **value):
    place = {"x": 10, "y": 20, "width": 50, "height": 40, "rotation": 0, **value}
    return {
        "type": "rectanglelabels",
        "original_width": 40,
        "original_height": 50,
        "value": {**place, "rectanglelabels": [label]},
    }


def test_label_studio(custom):
    text = {"type": "textarea", "value": {"text": ["a note"]}}
    content = [
        studio("/data/upload/3/1a2b3c4d-a.jpg", [choices("cat"), rectangle("dog"), text]),
        studio("/data/local-files/?d=some%20where/b.jpg", [choices("cat")]),
        studio("s3://bucket/c.jpg", []),
        studio("https://host/path/d.jpg?token=1", [choices("dog")]),
    ]
    result = custom("own.json", *IMAGES, content=content)
    assert result.labels == ROWS and boxes()["a.jpg"] == [("dog", [4, 10, 24, 30])]
    assert result.has("1 results", "'textarea'")
    skipped = {"result": [choices("cow")], "was_cancelled": True}
    content[3]["annotations"] = [skipped, *content[3]["annotations"]]
    assert custom("own.json", *IMAGES, content=content).labels == ROWS
    result = custom("own.json", *IMAGES, "--group", "patient")
    assert result.has("--group patient: 3 groups")


def test_annotators_are_joined_by_majority(custom):
    cat, dog, box = choices("cat"), choices("dog"), rectangle("cat")
    content = [
        studio("a.jpg", [cat, dog], [cat, box], [choices("cat", "dog"), rectangle("cat", x=0)]),
        studio("b.jpg", [cat], [cat], [dog]),
        studio("c.jpg", [cat], []),
        studio("d.jpg", [dog]),
    ]
    result = custom("own.json", *IMAGES, content=content)
    assert result.labels == ROWS | {"c.jpg": "?cat"} and result.has("3 images")
    assert boxes()["a.jpg"] == [("cat", [4, 10, 24, 30])]  # of the first who drew


def test_tasks_that_nobody_annotated(custom):
    content = [
        studio("a.jpg", [choices("cat")]),
        studio("b.jpg"),
        studio("c.jpg", []),
        studio("d.jpg", [choices("dog")]),
    ]
    content[3]["annotations"][0]["was_cancelled"] = True
    result = custom("own.json", *IMAGES, "--test-share", "0.5", content=content)
    assert result.labels == {"a.jpg": "cat", "c.jpg": ""} and result.has("2 tasks")


def test_json_min(custom):
    shape = rectangle("dog")["value"] | {"original_width": 40, "original_height": 50}
    content = [
        {"image": "a.jpg", "id": 1, "choice": {"choices": ["cat", "dog"]}, "annotator": 1},
        {"image": "b.jpg", "id": 2, "choice": "cat", "annotator": 1, "lead_time": 2.5},
        {"image": "c.jpg", "id": 3, "annotator": 1, "created_at": "2024"},
        {"image": "d.jpg", "id": 4, "label": [shape], "annotator": 1},
    ]
    assert custom("own.json", *IMAGES, content=content).labels == ROWS
    assert boxes()["d.jpg"] == [("dog", [4, 10, 24, 30])]
    content.append({"image": "b.jpg", "choice": "dog"})
    assert custom("own.json", *IMAGES, content=content).labels["b.jpg"] == "?cat,?dog"
    no_list = studio("a.jpg") | {"annotations": [{"result": None}]}
    for bad in ({"text": "a", "lead_time": 1}, studio("a.jpg", [rectangle("x", x="?")]), no_list):
        assert custom("own.json", *IMAGES, content=[bad]).where == "own.json"


def test_a_control_of_any_name(custom):
    """JSON-MIN writes one choice as text, several as an object."""
    content = [
        {"image": "a.jpg", "animal": {"choices": ["cat", "dog"]}, "annotator": 1},
        {"image": "b.jpg", "animal": "cat", "note": "x", "annotator": 1},
        {"image": "c.jpg", "annotator": 1},
        {"image": "d.jpg", "animal": "dog", "annotator": 1},
    ]
    result = custom("own.json", *IMAGES, content=content)
    assert result.labels == ROWS and result.has("note", "--labels-column")
    content[0]["animal"] = "cat"
    result = custom("own.json", *IMAGES, "--labels-column", "animal", content=content)
    assert result.labels == ROWS | {"a.jpg": "cat"}


def test_shapes(custom):
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["cat"]}
    polygon = {"points": [[10, 20], [50, 40], [30, 60]], "polygonlabels": ["cow"]}
    results = [{"type": "ellipselabels", "value": ellipse}, rectangle("dog", rotation=30)]
    results.append({"type": "polygonlabels", "value": polygon})
    content = [studio("a.jpg", results), studio("b.jpg", [choices("cat")])]
    result = custom("own.json", *IMAGES, "--test-share", "0.5", content=content)
    assert result.labels["a.jpg"] == "cat,cow,dog"
    assert boxes()["a.jpg"] == [("cat", [16, 15, 24, 35]), ("cow", [4, 10, 20, 30])]
    assert result.has("1 turned rectangles")
