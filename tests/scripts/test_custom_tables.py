"""Tables that scripts/custom.py reads: a row an image, a row an object, a column a label."""

from pathlib import Path

import pytest

from tests.helpers.annotations import IMAGES, ROWS, boxes, split, table, write

PATHS = "path filename file_name fname image image_name filepath img imageid image_id id".split()
LABELS = "labels label tags class classes genres categories".split()


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        *((name, "labels") for name in (*PATHS, "Image Index", " FileName ")),
        *(("id", name) for name in (*LABELS, "Finding Labels", " Genre")),
    ],
)
def test_names_of_columns(custom, path, labels):
    rows = "".join(f"{name}\t{names}\n" for name, names in ROWS.items())
    result = custom("own.tsv", *IMAGES, content=f"{path}\t{labels}\n{rows}")
    assert result.labels == ROWS and result.has(path.strip(), labels.strip())


def test_columns_can_be_named(custom):
    text = "tags,what,which\nx,a.jpg,cat\ny,b.jpg,dog\n"
    flags = ("--path-column", "What", "--labels-column", "which", "--test-share", "0.5", *IMAGES)
    result = custom("own.csv", *flags, content=text)
    assert result.labels == {"a.jpg": "cat", "b.jpg": "dog"} and result.has("'tags'")
    for names in (("where", "which"), ("what", "whose")):
        flags = ("--path-column", names[0], "--labels-column", names[1])
        assert custom("own.csv", *flags).where == "own.csv:1"


@pytest.mark.parametrize(
    ("cell", "separator"),
    [
        *(('"cat,dog"', None), ("cat; dog", None), ("cat|dog", None), ("cat dog", " ")),
        *(("cat/dog", "/"), ("\"['cat', 'dog']\"", None), ('"[""cat"", ""dog""]"', None)),
        *(('"{""choices"": [""cat"", ""dog""]}"', None), ("\"('cat', 'dog')\"", None)),
        *(("['cat' 'dog']", None), ('"{cat,dog}"', ","), ('"[cat,dog]"', ",")),  # NumPy's, SQL's
    ],
)
def test_several_labels_in_a_cell(custom, cell, separator):
    flags = ("--separator", separator) if separator else ()
    content = table(cell, "cat", "[]", "dog", header="image,labels")
    assert custom("own.csv", *IMAGES, *flags, content=content).labels == ROWS


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
    cells = [
        f"{names.replace(',', ';')},{v}" for names, v in zip(ROWS.values(), values, strict=True)
    ]
    content = table(*cells, header=f"path,labels,{column}")
    assert custom("own.csv", *IMAGES, "--test-share", "0.34", content=content).labels == ROWS
    assert split("val") == ["photos/c.jpg\t"]
    content = content.replace(values[0], "maybe")
    assert custom("own.csv", *IMAGES, content=content).where == "own.csv:2"


def test_the_line_of_an_error_after_cells_of_several_lines(custom):
    text = 'path,labels,note\na.jpg,cat,"one\ntwo\nthree"\n\nb.jpg,cat,"x\ny"\n,dog,z\n'
    assert custom("own.csv", *IMAGES, content=text).where == "own.csv:8"
    short = text.replace(",dog,z", '"b\nc",dog')
    assert custom("own.csv", *IMAGES, content=short).where == "own.csv:8"


def test_the_separator_is_the_one_with_a_known_header(custom):
    text = "path;labels;a,b,c,d\na.jpg;cat,dog;1\nb.jpg;cat;1\nc.jpg;;1\nd.jpg;dog;2\n"
    assert custom("own.csv", *IMAGES, content=text).labels == ROWS


def test_rows_of_a_label_are_joined(custom):
    text = "image,label\na.jpg,cat\nb.jpg,cat\na.jpg,dog\nc.jpg,\nd.jpg,dog\n"
    result = custom("own.csv", *IMAGES, content=text)
    assert result.labels == ROWS and result.has("5 rows of 4 images")
    for content, where in (
        (text + "a.jpg,?dog\n", "own.csv:7"),
        (
            text.replace("\n", ",\n").replace("label,", "label,split") + "a.jpg,cat,test",
            "own.csv:7",
        ),
        ("image,label\na.jpg,cat;dog\na.jpg,cow\n", "own.csv:3"),
    ):
        assert custom("own.csv", *IMAGES, content=content).where == where


def test_rows_that_repeat_another_and_empty_rows(custom):
    text = "image,labels\na.jpg,cat;dog\na.jpg,cat;dog\nb.jpg,cat\nc.jpg,\nd.jpg,dog\n,\n,\n"
    result = custom("own.csv", *IMAGES, content=text)
    assert result.labels == ROWS and result.has("left out: 1 rows")
    assert result.has("separated by ';'")
    text = "image,cat,dog\na.jpg,1,1\na.jpg,1,1\nb.jpg,1,nan\nc.jpg,0,NA\nd.jpg,0,1\n"
    assert custom("own.csv", *IMAGES, content=text).labels == ROWS


HOT = table("1, 1, 0", "1, 0, 0", "0, 0, 1", "0, 1, 0", header="filename, cat, dog, Unlabeled")


def test_a_column_a_label(custom):
    result = custom("photos/_classes.csv", content=HOT)
    assert result.labels == ROWS and result.has("left out: 'Unlabeled'", "cat, dog")
    assert custom("photos").labels == ROWS  # the folder that holds it


@pytest.mark.parametrize(
    ("yes", "no"), [("1.0", "0.0"), ("True", "FALSE"), ("x", ""), ("X", ""), ("yes", "no")]
)
def test_marks_of_a_column(custom, yes, no):
    cells = [
        ",".join(yes if one in names else no for one in ("cat", "dog")) for names in ROWS.values()
    ]
    content = table(*cells, header="image,cat,dog")
    assert custom("own.csv", *IMAGES, content=content).labels == ROWS


def test_uncertain_marks_and_other_columns(custom):
    """As CheXpert has them."""
    text = (
        "Path,Sex,Age,No Finding,Edema,Fracture\na.jpg,Male,60,,1.0,-1.0\nb.jpg,Female,1,1.0,,\n"
        "c.jpg,Male,0,,u,1\n"
    )
    flags = (*IMAGES, "--none", "No Finding", "--test-share", "0.4")
    result = custom("own.csv", *flags, content=text)
    found = {"a.jpg": "Edema,?Fracture", "b.jpg": "", "c.jpg": "?Edema,Fracture"}
    assert result.labels == found
    assert result.has("'Sex', 'Age'", "No Finding, Edema, Fracture")
    unknown = custom("own.csv", *flags, "--blank", "unknown").labels
    assert unknown["b.jpg"] == "?Edema,?Fracture"
    chosen = custom("own.csv", *flags[:2], *flags[-2:], "--label-columns", "edema").labels
    assert chosen == {"a.jpg": "Edema", "b.jpg": "", "c.jpg": "?Edema"}
    less = custom("own.csv", *flags, "--not-labels", "Edema").labels
    assert less["a.jpg"] == "?Fracture"
    line = custom("own.csv", *IMAGES, "--label-columns", "Age").where
    assert line == "own.csv:2"
    line = custom("own.csv", *IMAGES, "--not-labels", "Agee").where
    assert line == "own.csv:1"


def test_columns_that_are_probably_no_labels(custom):
    content = table(*(f"{n % 2},{n // 2 % 2},1" for n in range(4)), header="image,cat,dog,indoor")
    result = custom("own.csv", *IMAGES, content=content)
    assert result.has("cat, dog, indoor") and result.has("indoor", "--not-labels")
    rows = "".join(f"{number}.jpg,1,0\n" for number in range(30))
    content = f"image,cat,dog\n{rows}x.jpg,1,l\n"  # a mistake among marks
    assert custom("own.csv", content=content).where == "own.csv:32"
    assert custom("own.csv", content="image,width\na.jpg,40\n").where == "own.csv"
    content = table(*(f"33,{n % 2}" for n in range(4)), header="image,age,target")
    assert custom("own.csv", *IMAGES, content=content).where == "own.csv"
    result = custom("own.csv", *IMAGES, "--label-columns", "target", "--test-share", "0.5")
    assert result.labels["b.jpg"] == "target"


def test_a_table_of_1_and_minus_1(custom):
    """CelebA's."""
    content = table("1,-1,-1", "-1,1,-1", "1,1,-1", header="image_id,Bald,Smiling,Wig")
    result = custom("own.csv", *IMAGES, "--test-share", "0.34", content=content)
    assert result.labels == {"a.jpg": "Bald", "b.jpg": "Smiling", "c.jpg": "Bald,Smiling"}
    assert result.has("no image", "Wig")


BOXES = (
    "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,50,cat,1,2,30,40\n"
    "a.jpg,40,50,dog,0,0,10.5,9\nb.jpg,40,50,cat,1,1,2,2\nd.jpg,40,50,dog,3,3,9,9\n"
    "c.jpg,40,50,,,,,\n"
)


def test_a_row_an_object(custom):
    result = custom("photos/_annotations.csv", content=BOXES)
    assert result.labels == ROWS and result.has("5 rows of 4 images")
    assert boxes()["a.jpg"] == [("cat", [1, 2, 30, 40]), ("dog", [0, 0, 10.5, 9])]
    for old, new, where in (
        ("1,2,30,40", "1,2,x,40", "own.csv:2"),
        ("1,2,30,40", "30,2,1,40", "own.csv:2"),
        ("0,0,10.5,9", "0,9,10.5,0", "own.csv:3"),
        ("class", "what", "own.csv:1"),
        ("40,50,dog,3", "?,50,dog,3", "own.csv:5"),
    ):
        content = BOXES.replace(old, new)
        assert custom("own.csv", *IMAGES, content=content).where == where


def test_edges_of_other_names(custom):
    """VinBigData's."""
    text = "image_id,class_name,class_id,x_min,y_min,x_max,y_max\n"
    text += "a,Nodule,1,1,2,30,40\na,Mass,0,1,1,5,5\nb,No finding,14,,,,\n"
    flags = (*IMAGES, "--none", "No finding", "--test-share", "0.5")
    assert custom("own.csv", *flags, content=text).labels == {"a.jpg": "Mass,Nodule", "b.jpg": ""}
    assert boxes()["a.jpg"] == [("Nodule", [1, 2, 30, 40]), ("Mass", [1, 1, 5, 5])]


def test_open_images(custom):
    text = (
        "ImageID,Source,LabelName,Confidence\na,verification,/m/01yrx,1\na,x,/m/0bt9lr,1\n"
        "b,x,/m/01yrx,1\nb,x,/m/0bt9lr,0\nc,x,/m/0bt9lr,0\nd,x,/m/0bt9lr,0.8\n"
    )
    write("names.csv", "/m/01yrx,cat\n/m/0bt9lr,dog\n/m/0k4j,car\n")
    flags = (*IMAGES, "--class-descriptions", "names.csv")
    assert custom("own.csv", *flags, content=text).labels == ROWS
    unknown = custom("own.csv", *flags, "--blank", "unknown").labels
    assert unknown == {"a.jpg": "cat,dog", "b.jpg": "cat", "c.jpg": "?cat", "d.jpg": "?cat,dog"}
    both = custom("own.csv", *flags, content=text + "d,y,/m/0bt9lr,0\n").labels
    assert both["d.jpg"] == "?dog"  # annotators who contradict each other
    text = text.replace("0.8", "high")
    assert custom("own.csv", *flags, content=text).where == "own.csv:7"
    text = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\na,x,/m/01yrx,1,0.1,0.5,0,0.5\n"
        "b,x,/m/01yrx,1,0,1,0,1\n"
    )
    assert custom("own.csv", *flags, "--test-share", "0.5", content=text).code == 0
    assert boxes()["a.jpg"] == [("cat", [4, 0, 20, 25])]
    write("names.csv", "LabelName,DisplayName\n/m/0bt9lr,dog\n")
    assert custom("own.csv", *flags).where == "names.csv"


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("path,labels,split\na.jpg,cat,maybe\n", "own.csv:2"),
        ("path,labels,split\na.jpg,cat\n", "own.csv:2"),
        ("path,labels,split\na.jpg,?cat;cat,train\n", "own.csv:2"),
        ("path,labels,split\n,cat,train\n", "own.csv:2"),
        ('path,labels,split\na.jpg,"cat,train\n', "own.csv:2"),
        ('path,labels\na.jpg,"a\tb"\n', "own.csv:2"),
        ("path,labels\na.jpg,cat\n./photos/../a.jpg,dog\n", "own.csv:3"),
        ("file,labels\na.jpg,cat\n", "own.csv:1"),
        ("path,labels,labels\na.jpg,cat,\n", "own.csv:1"),
        ("0,cat\n1,dog\n", "own.csv:1"),  # without a header
        ("", "own.csv:1"),
        ("path,labels\n", "own.csv"),
        ("path,labels,split\na.jpg,cat,test\n", "own.csv"),
        ("path,labels\ncaf\xe9.png,cat\n", "own.csv"),
        ("filename,region_count,region_shape_attributes,region_attributes\n", "own.csv"),  # VIA
        ("path,labels\na.jpg,\nb.jpg,\n", "no image has a label"),
        ("path,labels\na.jpg,cat\n", "--test-share 0.2"),
        ("path,labels\na\0b/x.jpg,cat\nb.jpg,cat\n", "'photos/a\\x00b/x.jpg'"),
    ],
)
def test_bad_tables_are_named(custom, content, where):
    Path("own.csv").write_bytes(content.encode("latin-1"))
    assert custom("own.csv", *IMAGES).where == where
    assert not Path("data").exists()
