"""Each form of annotations that scripts/custom.py reads, from files as programs write them."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.annotations import IMAGES, boxes, coco, labels_of, picture, split, write
from tests.helpers.commands import error_line

ROWS = {"a.jpg": "cat,dog", "b.jpg": "cat", "c.jpg": "", "d.jpg": "dog"}


@pytest.mark.parametrize(
    "path",
    "path filename file_name fname image image_name filepath img imageid image_id id".split()
    + ["Image Index", " FileName "],
)
@pytest.mark.parametrize("labels", ["labels", "Finding Labels", " Genre"])
def test_names_of_columns(custom, path, labels):
    rows = "".join(f"{name},{names.replace(',', '|')}\n" for name, names in ROWS.items())
    result = custom("own.csv", *IMAGES, content=f"{path},{labels}\n{rows}")
    assert labels_of(result) == ROWS
    assert "own.csv: read as a CSV table with a row an image" in result.out
    assert f"columns separated by ','; images: '{path.strip()}'" in result.out


@pytest.mark.parametrize("name", "label tags class classes genres categories".split())
def test_names_of_the_column_of_labels(custom, name):
    rows = "".join(f"{path}\t{names}\n" for path, names in ROWS.items())
    assert labels_of(custom("own.tsv", *IMAGES, content=f"id\t{name}\n{rows}")) == ROWS


def test_columns_can_be_named(custom):
    text = "tags,what,which\nx,a.jpg,cat\ny,b.jpg,dog\n"
    flags = ("--path-column", "What", "--labels-column", "which", "--test-share", "0.5", *IMAGES)
    assert labels_of(custom("own.csv", *flags, content=text)) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert "left out: 'tags'" in custom("own.csv", *flags).out
    line = error_line(custom("own.csv", "--path-column", "where"))
    assert "own.csv:1: no column 'where' (--path-column), but tags" in line
    line = error_line(custom("own.csv", "--path-column", "what", "--labels-column", "whose"))
    assert "own.csv:1: no column 'whose' (--labels-column), but tags, what, which" in line


@pytest.mark.parametrize(
    ("cell", "flags"),
    [
        ('"cat,dog"', ()),
        ("cat; dog", ()),
        ("cat|dog", ()),
        ("cat dog", ("--separator", " ")),
        ("cat/dog", ("--separator", "/")),
        ("\"['cat', 'dog']\"", ()),
        ('"[""cat"", ""dog""]"', ()),
        ('"{""choices"": [""cat"", ""dog""]}"', ()),
        ("['cat' 'dog']", ()),  # NumPy's
        ("\"('cat', 'dog')\"", ()),
    ],
)
def test_several_labels_in_a_cell(custom, cell, flags):
    text = f"image,labels\na.jpg,{cell}\nb.jpg,cat\nc.jpg,[]\nd.jpg,dog\n"
    assert labels_of(custom("own.csv", *IMAGES, *flags, content=text)) == ROWS


def test_endings_and_words_for_no_label(custom):
    text = "id,finding labels\na,cat|dog\nb,cat\nc,No Finding\nd,dog\n"
    flags = (*IMAGES, "--extension", ".jpg", "--none", "no finding")
    result = custom("own.csv", *flags, content=text)
    assert labels_of(result) == ROWS
    assert "labels left out (--none): No Finding (1)" in result.out
    without = custom("own.csv", *IMAGES, "--none", "No Finding")
    assert labels_of(without) == ROWS and "found with the ending that was missing" in without.out


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("is_valid", ("False", "false", "True", "0")),
        ("valid", ("0", "0.0", "1", "no")),
        ("subset", ("Train", "training", "VALID", "train")),
        ("set", ("train", "train", "dev", "train")),
    ],
)
def test_columns_of_splits(custom, column, values):
    rows = "".join(
        f"{path},{names.replace(',', ' ')},{value}\n"
        for (path, names), value in zip(ROWS.items(), values, strict=True)
    )
    flags = (*IMAGES, "--separator", " ", "--test-share", "0.34")
    result = custom("own.csv", *flags, content=f"path,labels,{column}\n{rows}")
    assert labels_of(result) == ROWS and split("val") == ["photos/c.jpg\t"]


def test_the_line_of_an_error_after_cells_of_several_lines(custom):
    text = 'path,labels,note\na.jpg,cat,"one\ntwo\nthree"\n\nb.jpg,cat,"x\ny"\n,dog,z\n'
    assert "own.csv:8: no path" in error_line(custom("own.csv", *IMAGES, content=text))
    short = text.replace(",dog,z", '"b\nc",dog')
    assert "own.csv:8: 3 fields expected" in error_line(custom("own.csv", *IMAGES, content=short))


def test_the_separator_is_the_one_with_a_known_header(custom):
    text = "path;labels;a,b,c,d\na.jpg;cat,dog;1\nb.jpg;cat;1\nc.jpg;;1\nd.jpg;dog;2\n"
    assert labels_of(custom("own.csv", *IMAGES, content=text)) == ROWS


def test_rows_of_a_label_are_joined(custom):
    text = "image,label\na.jpg,cat\nb.jpg,cat\na.jpg,dog\nc.jpg,\nd.jpg,dog\n"
    result = custom("own.csv", *IMAGES, content=text)
    assert labels_of(result) == ROWS
    assert "a row a label: 5 rows of 4 images were joined" in result.out
    both = custom("own.csv", *IMAGES, content=text + "a.jpg,?dog\n")
    assert "own.csv:7: label 'dog' is both known and unknown" in error_line(both)
    several = "image,label\na.jpg,cat;dog\na.jpg,cow\n"
    line = error_line(custom("own.csv", *IMAGES, content=several))
    assert "own.csv:3: photos/a.jpg is a duplicate of own.csv:2: list each image once" in line


HOT = "filename, cat, dog, Unlabeled\na.jpg, 1, 1, 0\nb.jpg, 1, 0, 0\nc.jpg, 0, 0, 1\n"


def test_a_column_a_label(custom):
    result = custom("photos/_classes.csv", content=HOT + "d.jpg, 0, 1, 0\n")
    assert (
        labels_of(result) == ROWS and "left out: 'Unlabeled'; a label each: cat, dog" in result.out
    )
    assert labels_of(custom("photos")) == ROWS  # the folder that holds it


@pytest.mark.parametrize(
    ("yes", "no"), [("1.0", "0.0"), ("True", "FALSE"), ("x", ""), ("X", ""), ("yes", "no")]
)
def test_marks_of_a_column(custom, yes, no):
    rows = "".join(
        f"{path},{yes if 'cat' in names else no},{yes if 'dog' in names else no}\n"
        for path, names in ROWS.items()
    )
    assert labels_of(custom("own.csv", *IMAGES, content=f"image,cat,dog\n{rows}")) == ROWS


def test_uncertain_marks_and_other_columns(custom):
    """As CheXpert has them."""
    text = (
        "Path,Sex,Age,No Finding,Edema,Fracture\na.jpg,Male,60,,1.0,-1.0\nb.jpg,Female,1,1.0,,\n"
        "c.jpg,Male,0,,u,1\n"
    )
    flags = (*IMAGES, "--none", "No Finding", "--test-share", "0.4")
    result = custom("own.csv", *flags, content=text)
    assert labels_of(result) == {
        "a.jpg": "Edema,?Fracture",
        "b.jpg": "",
        "c.jpg": "?Edema,Fracture",
    }
    assert "left out: 'Sex', 'Age'; a label each: No Finding, Edema, Fracture" in result.out
    unknown = labels_of(custom("own.csv", *flags, "--blank", "unknown"))
    assert unknown["b.jpg"] == "?Edema,?Fracture"
    chosen = labels_of(custom("own.csv", *flags[:2], *flags[-2:], "--label-columns", "edema"))
    assert chosen == {"a.jpg": "Edema", "b.jpg": "", "c.jpg": "?Edema"}
    less = labels_of(custom("own.csv", *flags, "--not-labels", "Edema"))
    assert less["a.jpg"] == "?Fracture"
    line = error_line(custom("own.csv", *IMAGES, "--label-columns", "Age"))
    assert "own.csv:2: column 'age': '60': expected 0 or 1 (-1 or u: unknown)" in line
    assert "own.csv:1: no column 'agee', but path" in error_line(
        custom("own.csv", *IMAGES, "--not-labels", "Agee")
    )


def test_a_mark_that_is_a_mistake_is_named(custom):
    rows = "".join(f"{number}.jpg,1,0\n" for number in range(30))
    line = error_line(custom("own.csv", content=f"image,cat,dog\n{rows}x.jpg,1,l\n"))
    assert "own.csv:32: column 'dog': 'l': expected 0 or 1 (-1 or u: unknown), as 30 others are" in line
    assert "--not-labels 'dog'" in line
    line = error_line(custom("own.csv", content="image,width\na.jpg,40\n"))
    assert "own.csv: has no column of labels" in line


BOXES = (
    "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,50,cat,1,2,30,40\n"
    "a.jpg,40,50,dog,0,0,10.5,9\nb.jpg,40,50,cat,1,1,2,2\nd.jpg,40,50,dog,3,3,9,9\n"
    "c.jpg,40,50,,,,,\n"
)


def test_a_row_an_object(custom):
    result = custom("photos/_annotations.csv", content=BOXES)
    assert labels_of(result) == ROWS
    assert boxes()["a.jpg"] == [("cat", [1, 2, 30, 40]), ("dog", [0, 0, 10.5, 9])]
    assert "5 rows of 4 images were joined" in result.out
    for old, new, says in (
        ("1,2,30,40", "1,2,x,40", ":2: box 1, 2, x, 40: expected four numbers"),
        ("1,2,30,40", "30,2,1,40", ":2: box 30, 2, 1, 40: expected four numbers"),
        ("class", "what", ":1: has boxes (read as a table with a row an object), but no column"),
        ("40,50,dog,3", "?,50,dog,3", ":5: width '?', height '50': expected pixels"),
    ):
        line = error_line(custom("own.csv", *IMAGES, content=BOXES.replace(old, new)))
        assert f"own.csv{says}" in line


def test_open_images(custom):
    text = (
        "ImageID,Source,LabelName,Confidence\na,verification,/m/01yrx,1\na,x,/m/0bt9lr,1\n"
        "b,x,/m/01yrx,1\nb,x,/m/0bt9lr,0\nc,x,/m/0bt9lr,0\nd,x,/m/0bt9lr,0.8\n"
    )
    write("names.csv", "/m/01yrx,cat\n/m/0bt9lr,dog\n/m/0k4j,car\n")
    flags = (*IMAGES, "--class-descriptions", "names.csv")
    assert labels_of(custom("own.csv", *flags, content=text)) == ROWS
    unknown = labels_of(custom("own.csv", *flags, "--blank", "unknown"))
    assert unknown == {"a.jpg": "cat,dog", "b.jpg": "cat", "c.jpg": "?cat", "d.jpg": "?cat,dog"}
    text = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\na,x,/m/01yrx,1,0.1,0.5,0,0.5\n"
        "b,x,/m/01yrx,1,0,1,0,1\n"
    )
    assert custom("own.csv", *flags, "--test-share", "0.5", content=text).code == 0
    assert boxes()["a.jpg"] == [("cat", [4, 0, 20, 25])]
    write("names.csv", "LabelName,DisplayName\n/m/0bt9lr,dog\n")
    assert "names.csv: lacks the code '/m/01yrx'" in error_line(custom("own.csv", *flags))


def test_ids_of_coco(custom):
    content = coco()
    assert labels_of(custom("own.json", *IMAGES, content=content)) == ROWS
    for kind in (str, float, lambda number: f"x{number}"):
        other = json.loads(json.dumps(content))
        for image in other["images"]:
            image["id"] = kind(image["id"])
        for annotation in other["annotations"]:
            annotation["image_id"] = kind(annotation["image_id"])
        assert labels_of(custom("own.json", *IMAGES, content=other)) == ROWS
    other = coco(images=[{**image, "id": str(image["id"])} for image in content["images"]])
    for annotation in other["annotations"]:
        annotation["image_id"] = float(annotation["image_id"])
    assert labels_of(custom("own.json", *IMAGES, content=other)) == ROWS
    for number, value in enumerate(([], None, [1, 1, 1, 1])):
        content["annotations"][number] |= {"bbox": value, "iscrowd": [True, 1, None][number]}
    assert labels_of(custom("own.json", *IMAGES, content=content)) == ROWS
    assert boxes()["b.jpg"] == [("cat", [1, 1, 2, 2])] and boxes()["a.jpg"] == []


@pytest.mark.parametrize("prefix", ["data\\", "data/x/", "/home/me/set/", ".\\photos\\"])
def test_folders_of_coco_that_are_not_there(custom, prefix):
    content = coco()
    for image in content["images"]:
        image["file_name"] = prefix + image["file_name"]
    result = custom("own.json", *IMAGES, content=content)
    assert labels_of(result) == ROWS
    assert "4 image files found below --images" in result.out
    picture("photos/other/a.jpg")  # no longer unique
    assert "1 of 4 images are missing" in error_line(custom("own.json", *IMAGES))


def test_first_folders_that_are_not_there(custom):
    for number, name in enumerate(("p1/front", "p2/front", "p2/side")):
        picture(f"set/{name}.jpg", number)
    rows = "".join(f"CheXpert/v1/{name}.jpg,cat\n" for name in ("p1/front", "p2/front", "p2/side"))
    result = custom("own.csv", "--images", "set", content=f"Path,labels\n{rows}")
    assert result.code == 0 and len(split("train")) == 2, result.err
    assert "3 image files found below --images without the first folders of" in result.out


def test_categories_that_no_image_has(custom):
    content = coco()
    content["categories"] += [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 7, "name": "a,b"},
    ]
    result = custom("own.json", *IMAGES, content=content)
    assert labels_of(result) == ROWS
    assert "left out: category 0 'cat', which no image has" in result.out
    assert "left out: category 7 'a,b', which no image has" in result.out
    content["annotations"][0]["category_id"] = 0
    line = error_line(custom("own.json", *IMAGES, content=content))
    assert "own.json: categories[2]: duplicate label 'cat'" in line


def test_an_element_of_coco_that_does_not_fit_is_named(custom):
    content = coco()
    del content["images"][2]["file_name"]
    line = error_line(custom("own.json", *IMAGES, content=content))
    assert (
        "missing required field `file_name` - at `$.images[2]` (read as COCO's instances)" in line
    )
    content = coco()
    content["annotations"][3]["bbox"] = "1 2 3 4"
    line = error_line(custom("own.json", *IMAGES, content=content))
    assert "Expected `array | null`, got `str` - at `$.annotations[3].bbox`" in line
    line = error_line(custom("own.json", content={"annotations": []}))
    assert "required field `images` (read as COCO's instances)" in line


def test_annotations_of_unknown_images_and_labels_of_images(custom):
    content = coco()
    content["annotations"].append({"image_id": 99, "category_id": 1})
    line = error_line(custom("own.json", *IMAGES, content=content))
    assert "own.json: annotations[4]: image_id 99 is no image" in line and "--skip-missing" in line
    result = custom("own.json", *IMAGES, "--skip-missing")
    assert labels_of(result) == ROWS
    assert "left out: 1 annotations of images that are not listed" in result.out
    content = coco(annotations=[])
    for image, numbers in zip(content["images"], ([1, 2], [1], [], [2]), strict=True):
        image["category_ids"] = numbers
    assert labels_of(custom("own.json", *IMAGES, content=content)) == ROWS


@pytest.mark.parametrize("name", ["_annotations.coco.json", "_classes.csv", "metadata.csv"])
def test_an_export_with_train_valid_and_test(custom, name):
    for number, (folder, image) in enumerate((("train", "a"), ("valid", "b"), ("test", "d"))):
        content = coco(images=[{"id": 0, "file_name": f"{image}.jpg"}])
        content["annotations"] = content["annotations"][: 1 + (number == 0)]
        rows = {"_classes.csv": "filename,cat,dog\n{},1,{}\n", "metadata.csv": "file_name,labels\n"}
        text = rows.get(name, "").format(f"{image}.jpg", int(number == 0))
        text += f"{image}.jpg,cat{';dog' * (number == 0)}\n" if name == "metadata.csv" else ""
        write(f"export/{folder}/{name}", text or content)
        picture(f"export/{folder}/{image}.jpg", number)
    write("export/README.txt", "by a program")
    assert labels_of(custom("export")) == {"a.jpg": "cat,dog", "b.jpg": "cat", "d.jpg": "cat"}
    assert split("val") == ["export/valid/b.jpg\tcat"] and len(split("test")) == 1
    assert len(labels_of(custom("export/train", "--test", "export/test"))) == 2


OBJECT = "<object><name>{}</name>{}</object>"
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"


def xml(filename, *objects):
    name = f"<filename>{filename}</filename>" if filename else ""
    return f"<annotation>{name}{''.join(objects)}</annotation>"


def test_voc_as_programs_write_it(custom):
    cat, dog = OBJECT.format("cat", BOX), OBJECT.format("dog", "")
    write("xml/a.xml", xml("a", cat, dog))  # no ending, an object without a box
    write("xml/b.XML", xml("B.PNG", cat))  # another ending and letter case
    write("xml/c.xml", xml("C:\\me\\photos\\c.jpg"))
    write("xml/d.xml", xml("IMG_0001.jpg", dog))  # wrong
    write("xml/._a.xml", "not XML")
    write("xml/more/e.xml", xml("e.jpg", cat))
    result = custom("xml", *IMAGES)
    assert labels_of(result) == ROWS and boxes()["a.jpg"] == [("cat", [1, 2, 3, 4])]
    assert "left out: 1 .xml files in sub-folders (more): --recursive" in result.out
    assert labels_of(custom("xml", *IMAGES, "--recursive")) == ROWS | {"e.jpg": "cat"}
    write("other/more/e.xml", xml("e.jpg", cat))
    assert "has .xml files in sub-folders only; --recursive" in error_line(custom("other"))
    write("xml/a.xml", xml("a", OBJECT.format("cat", "<bndbox><xmin>1</xmin></bndbox>")))
    assert "xml/a.xml: an object (cat) without a full box" in error_line(custom("xml", *IMAGES))


def test_voc_in_folders_of_splits(custom):
    for number, name in enumerate(("train/a", "train/b", "test/c")):
        picture(f"set/{name}.jpg", number)
        write(f"set/{name}.xml", xml(f"{Path(name).name}.jpg", OBJECT.format("cat", BOX)))
    for flags in ((), ("--recursive",)):
        assert len(labels_of(custom("set", *flags))) == 3
        assert split("test") == ["set/test/c.jpg\tcat"]


def test_difficult_labels_are_unknown_in_train_and_val(custom):
    difficult = OBJECT.format("dog", BOX + "<difficult>1</difficult>")
    for name in "abcdefgh":
        write(f"xml/{name}.xml", xml(f"{name}.jpg", OBJECT.format("cat", BOX), difficult))
    assert custom("xml", *IMAGES, "--test-share", "0.25", "--val", "0.5").code == 0
    assert [len(split(name)) for name in ("train", "val", "test")] == [3, 3, 2]
    for name, names in (("train", "cat,?dog"), ("val", "cat,?dog"), ("test", "cat")):
        assert {line.split("\t")[1] for line in split(name)} == {names}
    assert np.load("data/mine/ignore.npy").tolist() == [[0, 1], [0, 1]]


CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
<meta><task><name>pets</name></task></meta>
<image id="0" name="a.jpg" subset="Train" width="40" height="50">
  <box label="cat" xtl="1.5" ytl="2" xbr="30" ybr="40" occluded="0"/>
  <polygon label="dog" points="1.00,2.00;10.50,3.00;5,9" z_order="0"/></image>
<image id="1" name="b.jpg" subset="Train" width="40" height="50"><tag label="cat"/></image>
<image id="2" name="c.jpg" subset="Validation" width="40" height="50"></image>
<image id="3" name="sub/d.jpg" subset="Test"><points label="dog" points="1,2"/></image>
</annotations>"""


def test_cvat(custom):
    result = custom("own.xml", *IMAGES, content=CVAT)
    assert labels_of(result) == ROWS
    assert boxes()["a.jpg"] == [("cat", [1.5, 2, 30, 40]), ("dog", [1, 2, 10.5, 9])]
    assert split("val") == ["photos/c.jpg\t"] and split("test") == ["photos/d.jpg\tdog"]
    result = custom("own.xml", *IMAGES, content=CVAT.replace(' subset="Train"', ' subset="Pool"'))
    assert "subset 'pool': 2 images without a split" in result.out and result.code == 0
    for old, new, says in (
        ('xtl="1.5"', 'xtl="?"', "image 1 (a.jpg): <box> cat: its coordinates are not numbers"),
        ('label="cat"', 'label=""', "image 1 (a.jpg): <box>: empty label"),
        ("<image ", "<track ", "not a readable annotation"),
        (CVAT, "<annotations><track/></annotations>", 'export it from CVAT as "CVAT for images'),
        (CVAT, xml("a.jpg"), "one file of VOC's form: pass the folder"),
        ('name="a.jpg"', "", "image 1 (without a name): no path"),
    ):
        assert says in error_line(custom("own.xml", *IMAGES, content=CVAT.replace(old, new)))


def studio(image, *annotators):
    return {
        "id": 1,
        "data": {"image": image},
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
    assert labels_of(result) == ROWS and boxes()["a.jpg"] == [("dog", [4, 10, 24, 30])]
    assert "1 results of the type 'textarea': left out" in result.out
    skipped = {"result": [choices("cow")], "was_cancelled": True}
    content[3]["annotations"] = [skipped, *content[3]["annotations"]]
    assert labels_of(custom("own.json", *IMAGES, content=content)) == ROWS


def test_annotators_of_label_studio_are_joined_by_majority(custom):
    cat, dog = choices("cat"), choices("dog")
    content = [
        studio("a.jpg", [cat, dog], [cat], [choices("cat", "dog")]),
        studio("b.jpg", [cat], [cat], [dog]),
        studio("c.jpg", [cat], []),
        studio("d.jpg", [dog]),
    ]
    result = custom("own.json", *IMAGES, content=content)
    assert labels_of(result) == ROWS | {"c.jpg": "?cat"}
    assert "3 images of several annotators: a label counts by majority" in result.out


def test_label_studio_min(custom):
    shape = rectangle("dog")["value"] | {"original_width": 40, "original_height": 50}
    content = [
        {"image": "a.jpg", "id": 1, "choice": {"choices": ["cat", "dog"]}, "annotator": 1},
        {"image": "b.jpg", "id": 2, "choice": "cat", "annotator": 1, "lead_time": 2.5},
        {"image": "c.jpg", "id": 3, "annotator": 1, "created_at": "2024"},
        {"image": "d.jpg", "id": 4, "label": [shape], "annotator": 1},
    ]
    assert labels_of(custom("own.json", *IMAGES, content=content)) == ROWS
    assert boxes()["d.jpg"] == [("dog", [4, 10, 24, 30])]
    content.append({"image": "b.jpg", "choice": "dog"})
    assert labels_of(custom("own.json", *IMAGES, content=content))["b.jpg"] == "?cat,?dog"
    line = error_line(custom("own.json", *IMAGES, content=[{"text": "a", "lead_time": 1}]))
    assert 'own.json: [0]: expected a task with "data": {"image": ...}' in line
    bad = studio("a.jpg", [rectangle("dog", x="?")])
    assert "own.json: [0]: a shape whose coordinates" in error_line(
        custom("own.json", content=[bad])
    )


def test_hugging_face(custom):
    records = [
        {"file_name": "a.jpg", "labels": ["cat", "dog"]},
        {"file_name": "b.jpg", "tags": "cat"},
        {"file_name": "c.jpg", "objects": {"bbox": [], "categories": []}},
        {"file_name": "d.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["dog"]}},
    ]
    lines = "\n".join(map(json.dumps, records))
    assert labels_of(custom("photos/metadata.jsonl", content=lines)) == ROWS
    assert labels_of(custom("photos")) == ROWS and boxes()["d.jpg"] == [("dog", [1, 2, 4, 6])]
    csv = "file_name,labels\na.jpg,\"['cat', 'dog']\"\nb.jpg,cat\nc.jpg,\nd.jpg,dog\n"
    Path("photos/metadata.jsonl").unlink()
    assert labels_of(custom("photos/metadata.csv", content=csv)) == ROWS
    assert labels_of(custom("photos")) == ROWS
    for record, says in (
        ({"file_name": "a.jpg", "objects": {"bbox": [[1]], "categories": ["dog"]}}, "bbox is not"),
        (
            {"file_name": "a.jpg", "objects": {"bbox": [[1]], "categories": []}},
            'expected "objects": ',
        ),
        ({"labels": ["cat"]}, 'expected {"file_name": ...'),
    ):
        assert f"own.jsonl:1: {says}" in error_line(custom("own.jsonl", content=json.dumps(record)))


def test_numbers_with_names(custom):
    records = [
        {"file_name": f"{name}.jpg", "label": numbers}
        for name, numbers in (("a", [0, 1]), ("b", 0), ("c", []), ("d", 1.0))
    ]
    lines = "\n".join(map(json.dumps, records))
    assert "nothing but 0 and 1" in error_line(custom("own.jsonl", *IMAGES, content=lines))
    for file, content in (("n.txt", "cat\ndog\n"), ("n.json", ["cat", "dog"])):
        write(file, content)
        assert labels_of(custom("own.jsonl", *IMAGES, "--label-names", file)) == ROWS
    write("n.json", {"0": "cat", "1": "dog"})
    assert labels_of(custom("own.jsonl", *IMAGES, "--label-names", "n.json")) == ROWS
    write("n.txt", "cat\n")
    line = error_line(custom("own.jsonl", *IMAGES, "--label-names", "n.txt"))
    assert "n.txt: has no name for the label 1, only 1 names" in line


def test_split_folders_in_file_names(custom):
    for folder, name in (("train", "a"), ("train", "b"), ("test", "c")):
        picture(f"set/{folder}/{name}.jpg", ord(name) - 96)
    records = [
        {"file_name": f"{place}.jpg", "labels": ["cat"]}
        for place in ("train/a", "train/b", "test/c")
    ]
    result = custom("set/metadata.jsonl", content="\n".join(map(json.dumps, records)))
    assert len(labels_of(result)) == 3 and split("test") == ["set/test/c.jpg\tcat"]


def test_fiftyone(custom):
    content = {"classes": ["cat", "dog"], "labels": {"a": [0, 1], "b": "cat", "c": None, "d": 1}}
    for name in "abcd":
        picture(f"export/data/{name}.jpg", ord(name) - 96)
    assert labels_of(custom("export/labels.json", content=content)) == ROWS
    assert labels_of(custom("export")) == ROWS
    assert labels_of(custom("export", *IMAGES)) == ROWS and "photos/" in split("train")[0]
    content["labels"]["b"] = {"label": "cat", "confidence": 0.9}
    assert labels_of(custom("export/labels.json", content=content)) == ROWS
    content["labels"]["b"] = 7
    line = error_line(custom("export/labels.json", content=content))
    assert "export/labels.json: labels['b']: 7: expected a label, or a number of one of 2" in line
    line = error_line(custom("own.json", content={"labels": [1]}))
    assert "(read as an export of FiftyOne)" in line


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("own.xlsx", "a .xlsx file is not read; save it as CSV"),
        ("own.parquet", "a .parquet file is not read; export it, for example: python -c"),
        ("own.zip", "a .zip file is not read; unpack it"),
        ("own.json", "a .json object with a, b, in no form that is read"),
        ("own.doc", "in no form that is read: a CSV table"),
    ],
)
def test_other_files_say_what_to_do(custom, file, says):
    assert f"{file}: {says}" in error_line(custom(file, content={"a": 1, "b": 2}))


def test_yolo_without_its_file(custom):
    write("set/labels/a.txt", "0 0.5 0.5 1 1\n")
    picture("set/images/a.jpg")
    assert "looks like a YOLO data set without data.yaml" in error_line(custom("set"))


def test_columns_that_are_probably_no_labels(custom):
    rows = "".join(f"{name}.jpg,{n % 2},{n // 2 % 2},1\n" for n, name in enumerate("abcd"))
    result = custom("own.csv", *IMAGES, content=f"image,cat,dog,reviewed\n{rows}")
    assert "a label each: cat, dog, reviewed" in result.out
    assert "the same in every row: reviewed; --not-labels leaves columns out" in result.out
    rows = "".join(f"{name}.jpg,33,{n % 2}\n" for n, name in enumerate("abcd"))
    line = error_line(custom("own.csv", *IMAGES, content=f"image,age,target\n{rows}"))
    assert "one column of 0 and 1 ('target')" in line and "--label-columns" in line
    result = custom("own.csv", *IMAGES, "--label-columns", "target", "--test-share", "0.5")
    assert labels_of(result)["b.jpg"] == "target"
    via = "filename,file_size,region_count,region_shape_attributes,region_attributes\n"
    assert "VGG Image Annotator: export it as COCO" in error_line(custom("via.csv", content=via))


def test_a_table_of_1_and_minus_1(custom):
    """CelebA's."""
    text = "image_id,Bald,Smiling,Wig\na.jpg,1,-1,-1\nb.jpg,-1,1,-1\nc.jpg,1,1,-1\n"
    result = custom("own.csv", *IMAGES, "--test-share", "0.34", content=text)
    assert labels_of(result) == {"a.jpg": "Bald", "b.jpg": "Smiling", "c.jpg": "Bald,Smiling"}
    assert "neither 0 nor a blank: -1 is read as no" in result.out
    assert "labels that no image of it has: Wig" in result.out


def test_rows_that_repeat_another_and_empty_rows(custom):
    text = "image,labels\na.jpg,cat;dog\na.jpg,cat;dog\nb.jpg,cat\nc.jpg,\nd.jpg,dog\n,\n,\n"
    result = custom("own.csv", *IMAGES, content=text)
    assert labels_of(result) == ROWS and "left out: 1 rows that repeat another one" in result.out
    assert "labels in a cell separated by ';'" in result.out
    text = "image,cat,dog\na.jpg,1,1\na.jpg,1,1\nb.jpg,1,nan\nc.jpg,0,NA\nd.jpg,0,1\n"
    assert labels_of(custom("own.csv", *IMAGES, content=text)) == ROWS


def test_cvat_of_a_project(custom):
    """The same names in each subset, and images/<subset>/ beside the file; a turned box."""
    for number, subset in enumerate(("Train", "Test")):
        picture(f"out/images/{subset}/a.jpg", 10 + number, (100, 100))
    box = '<box label="cat" xtl="20" ytl="20" xbr="60" ybr="40" rotation="90.00"/>'
    images = "".join(
        f'<image name="a.jpg" subset="{subset}" width="100" height="100">{box}</image>'
        for subset in ("Train", "Test")
    )
    write("out/annotations.xml", f"<annotations>{images}</annotations>")
    for flags in ((), ("--images", "out/images")):
        assert custom("out", *flags).code == 0
        assert split("test") == ["out/images/Test/a.jpg\tcat"]
        assert boxes()["a.jpg"] == [("cat", [30, 10, 50, 50])]


def test_a_folder_with_one_annotation_file(custom):
    write("set/whatever.csv", "path,labels\n" + "".join(f"{n}.jpg,cat\n" for n in "abcde"))
    assert custom("set", *IMAGES).code == 0
    write("set/other.csv", "path,labels\n")
    line = error_line(custom("set", *IMAGES))
    assert "set: holds several annotation files (other.csv, whatever.csv): pass one" in line
    write("set/_classes.csv", HOT + "d.jpg, 0, 1, 0\n")
    result = custom("set", *IMAGES)
    assert labels_of(result) == ROWS and "set: not read: other.csv, whatever.csv" in result.out
    write("annotated/annotations/instances_default.json", coco())
    assert labels_of(custom("annotated", *IMAGES)) == ROWS


def test_tasks_that_nobody_annotated(custom):
    content = [
        studio("a.jpg", [choices("cat")]),
        studio("b.jpg"),
        studio("c.jpg", []),
        studio("d.jpg", [choices("dog")]),
    ]
    content[3]["annotations"][0]["was_cancelled"] = True
    result = custom("own.json", *IMAGES, "--test-share", "0.5", content=content)
    assert labels_of(result) == {"a.jpg": "cat", "c.jpg": ""}
    assert "2 tasks without an annotation: left out" in result.out


def test_a_control_of_any_name(custom):
    """JSON-MIN writes one choice as text, several as an object."""
    content = [
        {"image": "a.jpg", "animal": {"choices": ["cat", "dog"]}, "annotator": 1},
        {"image": "b.jpg", "animal": "cat", "note": "x", "annotator": 1},
        {"image": "c.jpg", "annotator": 1},
        {"image": "d.jpg", "animal": "dog", "annotator": 1},
    ]
    result = custom("own.json", *IMAGES, content=content)
    assert labels_of(result) == ROWS
    assert "keys that are no labels: note; --labels-column names one" in result.out
    content[0]["animal"] = "cat"
    result = custom("own.json", *IMAGES, "--labels-column", "animal", content=content)
    assert labels_of(result) == ROWS | {"a.jpg": "cat"}


def test_shapes_of_label_studio(custom):
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["cat"]}
    results = [{"type": "ellipselabels", "value": ellipse}, rectangle("dog", rotation=30)]
    content = [studio("a.jpg", results), studio("b.jpg", [choices("cat")])]
    result = custom("own.json", *IMAGES, "--test-share", "0.5", content=content)
    assert labels_of(result)["a.jpg"] == "cat,dog"
    assert boxes()["a.jpg"] == [("cat", [16, 15, 24, 35])]
    assert "1 turned rectangles, points or other shapes: labels without a box" in result.out


def test_other_records(custom):
    """Objects as a list, null for no label, a .json list."""
    records = [
        {
            "file_name": "a.jpg",
            "objects": [{"bbox": [1, 2, 3, 4], "category": "cat"}, {"category": "dog"}],
        },
        {"file_name": "b.jpg", "label": "cat"},
        {"file_name": "c.jpg", "label": None},
        {"file_name": "d.jpg", "label": "dog"},
    ]
    assert labels_of(custom("own.json", *IMAGES, content=records)) == ROWS
    assert boxes()["a.jpg"] == [("cat", [1, 2, 4, 6])]
    create_ml = [{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {}}]}]
    line = error_line(custom("own.json", *IMAGES, content=create_ml))
    assert "own.json: [0]: no labels; its keys are image, annotations; --labels-column" in line


def test_boxes_without_an_area_and_labels_without_images(custom):
    content = coco(categories=[*coco()["categories"], {"id": 3, "name": "cow"}])
    content["annotations"][0]["bbox"] = [0, 0, 0, 0]
    content["annotations"][1]["bbox"] = [5, 5, 0, 3]
    result = custom("own.json", *IMAGES, content=content)
    assert labels_of(result) == ROWS and boxes()["a.jpg"] == []
    assert "left out: 1 boxes without an area; their labels stay" in result.out
    assert "labels that no image of it has: cow" in result.out


def test_yolo_whose_val_is_train(custom):
    for number, name in enumerate("abcde"):
        picture(f"set/images/all/{name}.jpg", number)
        write(f"set/labels/all/{name}.txt", "0 0.5 0.5 0.5 0.5\n")
    write("set/data.yaml", "train: images/all\nval: images/all\nnames: [cat, owl]\n")
    result = custom("set")
    assert result.code == 0 and "val is the same as train: read once, as train" in result.out
    assert "labels that no image of it has: owl" in result.out


def test_edges_of_other_names(custom):
    """VinBigData's."""
    text = "image_id,class_name,class_id,x_min,y_min,x_max,y_max\n"
    text += "a,Nodule,1,1,2,30,40\na,Mass,0,1,1,5,5\nb,No finding,14,,,,\n"
    flags = (*IMAGES, "--none", "No finding", "--test-share", "0.5")
    result = custom("own.csv", *flags, content=text)
    assert labels_of(result) == {"a.jpg": "Mass,Nodule", "b.jpg": ""}
    assert boxes()["a.jpg"] == [("Nodule", [1, 2, 30, 40]), ("Mass", [1, 1, 5, 5])]


def test_a_table_without_a_header(custom):
    line = error_line(custom("own.csv", content="0.jpg,cat\n1.jpg,dog\n"))
    assert "own.csv:1: has no header, but 0.jpg,cat: add a first line such as path,labels" in line


def test_splits_of_yolo_that_are_the_same(custom):
    for number, name in enumerate("abcde"):
        picture(f"set/images/{'train' if number < 3 else 'rest'}/{name}.jpg", number)
        write(f"set/labels/{'train' if number < 3 else 'rest'}/{name}.txt", "0 0.5 0.5 0.5 0.5\n")
    write(
        "set/VOC.yaml", "train: images/train\nval: [images/rest]\ntest: images/rest\nnames: [cat]\n"
    )
    result = custom("set")
    assert result.code == 0 and len(split("test")) == 2 and not split("val"), result.err
    assert "val is the same as test: read once, as test" in result.out
    Path("set/VOC.yaml").unlink()
    assert "looks like a YOLO data set without data.yaml" in error_line(custom("set"))


def test_what_cvat_has_more(custom):
    more = CVAT.replace(
        '<tag label="cat"/>', '<tag label="cat"><attribute name="k">x</attribute></tag>'
    )
    result = custom("own.xml", *IMAGES, content=more)
    assert "left out: 1 attributes of labels" in result.out
    assert "1 points: labels without a box" in result.out


def test_nan_in_lists(custom):
    rows = "".join(
        f"{name}.jpg,\"['cat', {value}]\"\n"
        for name, value in zip("abc", ("nan", "None", "'dog'"), strict=True)
    )
    line = error_line(custom("own.csv", *IMAGES, content=f"image,labels\n{rows}"))
    assert "labels that mean no label: 'None' and 'nan' (2 labels); --none" in line
    flags = ("--none", "nan", "--none", "none", "--test-share", "0.34")
    found = labels_of(custom("own.csv", *IMAGES, *flags))
    assert found == {"a.jpg": "cat", "b.jpg": "cat", "c.jpg": "cat,dog"}


def test_names_of_numbers_in_other_files(custom):
    text = "id,label\na,0\nb,1\nc,1\n"
    for file, content in (
        ("n.csv", "attribute_id,attribute_name\n0,cat\n1,dog\n"),
        ("n.json", {"cat": 0, "dog": 1}),
        ("config.json", {"id2label": {"0": "cat", "1": "dog"}, "x": 3}),
    ):
        write(file, content)
        flags = (*IMAGES, "--label-names", file, "--test-share", "0.34")
        assert labels_of(custom("own.csv", *flags, content=text))["a.jpg"] == "cat"
    write("n.json", {"0": ["cat"]})
    assert "n.json: expected names of numbers" in error_line(
        custom("own.csv", *IMAGES, "--label-names", "n.json")
    )
