"""Forms of XML that scripts/custom.py reads: Pascal VOC and CVAT."""

from pathlib import Path

import numpy as np

from tests.helpers.annotations import IMAGES, PLACES, ROWS, boxes, picture, pictures, split, write

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
    write("xml/more/e.xml", xml("", cat))
    result = custom("xml", *IMAGES)
    assert result.labels == ROWS and boxes()["a.jpg"] == [("cat", [1, 2, 3, 4])]
    assert result.has("left out: 1", "more", "--recursive")
    assert custom("xml", *IMAGES, "--recursive").labels == ROWS | {"e.jpg": "cat"}
    write("other/more/e.xml", xml("e.jpg", cat))
    assert "other: " in (line := custom("other").line) and "--recursive" in line
    for bad in (
        xml("a", OBJECT.format("cat", "<bndbox><xmin>1</xmin></bndbox>")),
        xml("a", OBJECT.format(" ", BOX)),
        "<annotation>",
        "<html/>",
    ):
        write("xml/a.xml", bad)
        assert custom("xml", *IMAGES).where == "xml/a.xml"


def test_voc_in_folders_of_splits(custom):
    pictures("set", *PLACES)
    for name in PLACES:
        write(f"set/{name}.xml", xml(f"{Path(name).name}.jpg", OBJECT.format("cat", BOX)))
    for flags in ((), ("--recursive",)):
        assert len(custom("set", *flags).labels) == 3
        assert split("test") == ["set/test/c.jpg\tcat"]


def test_difficult_labels_are_unknown_in_train_and_val(custom):
    """And marked in ignore.npy for test images."""
    difficult = OBJECT.format("dog", BOX + "<difficult>1</difficult>")
    for name in "abcdefgh":
        write(f"xml/{name}.xml", xml(f"{name}.jpg", OBJECT.format("cat", BOX), difficult))
    assert custom("xml", *IMAGES, "--test-share", "0.25", "--val", "0.5").code == 0
    assert [len(split(name)) for name in ("train", "val", "test")] == [3, 3, 2]
    for name, names in (("train", "cat,?dog"), ("val", "cat,?dog"), ("test", "cat")):
        assert {line.split("\t")[1] for line in split(name)} == {names}
    assert np.load("data/mine/ignore.npy").tolist() == [[0, 1], [0, 1]]
    for name in "abcdefgh":  # one that is not difficult is enough
        write(f"xml/{name}.xml", xml(f"{name}.jpg", difficult, OBJECT.format("dog", BOX)))
    assert {*custom("xml", *IMAGES).labels.values()} == {"dog"}


CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
<meta><task><name>pets</name></task></meta>
<image id="0" name="a.jpg" subset="Train" width="40" height="50">
  <box label="cat" xtl="1.5" ytl="2" xbr="30" ybr="40" occluded="0"/>
  <polygon label="dog" points="1.00,2.00;10.50,3.00;5,9" z_order="0"/></image>
<image id="1" name="b.jpg" subset="Train" width="40" height="50">
  <tag label="cat"><attribute name="k">x</attribute></tag></image>
<image id="2" name="c.jpg" subset="Validation" width="40" height="50"></image>
<image id="3" name="sub/d.jpg" subset="Test"><points label="dog" points="1,2"/>
  <ellipse label="dog" cx="20" cy="20" rx="5" ry="4"/>
  <mask label="dog" left="3" top="4" width="5" height="6" rle="1"/></image>
</annotations>"""


def test_cvat(custom):
    result = custom("own.xml", *IMAGES, content=CVAT)
    assert result.labels == ROWS
    assert boxes()["a.jpg"] == [("cat", [1.5, 2, 30, 40]), ("dog", [1, 2, 10.5, 9])]
    assert boxes()["d.jpg"] == [("dog", [15, 16, 25, 24]), ("dog", [3, 4, 8, 10])]
    assert split("val") == ["photos/c.jpg\t"] and split("test") == ["photos/d.jpg\tdog"]
    assert result.has("1 attributes") and result.has("1 points")
    result = custom("own.xml", *IMAGES, content=CVAT.replace(' subset="Train"', ' subset="Pool"'))
    assert result.has("'pool'", "2 images") and result.code == 0
    for old, new, said in (
        ('xtl="1.5"', 'xtl="?"', ": image 1 (a.jpg): <box> cat: "),
        ('"1.00,2.00', '"1.00', ": image 1 (a.jpg): <polygon> dog: "),
        ('label="cat"', 'label=""', ": image 1 (a.jpg): <box>: "),
        ('width="40"', 'width="?"', ": image 1 (a.jpg): width '?'"),
        ('name="a.jpg"', "", ": image 1 (without a name): "),
        ("<image ", "<track ", ": "),
        (CVAT, "<annotations><track/></annotations>", "CVAT for images 1.1"),
        (CVAT, xml("a.jpg"), "pass the folder"),
    ):
        line = custom("own.xml", *IMAGES, content=CVAT.replace(old, new)).line
        assert "error: own.xml: " in line and said in line


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
