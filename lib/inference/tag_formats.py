"""`infer.py --format`: the tags of images for other programs, on stdout or beside the images."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from lib.common.errors import UserError
from lib.common.files import write_text
from lib.inference.tags import TaggedImage

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
# for white space in attributes, which minidom would write as it is, to be read as spaces
MARKS = {10: "\ue00a", 13: "\ue00d", 9: "\ue009"}
EMPTY = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def as_json(image: TaggedImage) -> str:
    """One line of JSON for an image: its path, labels and scores."""
    labels = [tag.label for tag in image.predicted]
    scores = [round(tag.score, 6) for tag in image.predicted]
    return json.dumps({"path": image.path, "labels": labels, "scores": scores})


def as_csv(image: TaggedImage) -> str:
    """A row of path, label and score for each label; without labels one with the path alone."""
    text = io.StringIO()
    rows = [(image.path, tag.label, f"{tag.score:.6f}") for tag in image.predicted]
    csv.writer(text, lineterminator="\n").writerows(rows or [(image.path, "", "")])
    return text.getvalue().rstrip("\n")


def write_sidecar(image: TaggedImage) -> None:
    """Add the labels of an image to the keywords (`dc:subject`) of the XMP file beside it, which
    keeps what else it holds."""
    file = Path(f"{image.path}.xmp")
    text = file.read_bytes() if file.exists() else EMPTY.encode()
    write_text(file, with_keywords(text, [tag.label for tag in image.predicted], file))


def with_keywords(content: bytes, keywords: Sequence[str], file: Path) -> str:
    """The XMP packet `content` of `file` with `keywords` added to its `dc:subject`."""
    try:
        document = minidom.parseString(content)
    except (ExpatError, ValueError, LookupError) as error:  # the latter for odd encodings
        raise UserError(f"{file}: not XML ({error}): remove it, or repair it") from error
    if document.doctype:
        raise UserError(f"{file}: has a document type, which XMP has not: remove it, or repair it")
    descriptions = document.getElementsByTagNameNS(RDF, "Description")
    if not descriptions:
        raise UserError(f"{file}: no XMP, it has no rdf:Description: remove it, or repair it")
    lists = [
        child
        for subject in document.getElementsByTagNameNS(DC, "subject")
        for child in subject.childNodes
        if child.namespaceURI == RDF and child.localName in ("Bag", "Seq", "Alt")
    ]
    bag = lists[0] if lists else _new_bag(document, descriptions[0])
    known = {
        "".join(node.data for node in item.childNodes if node.nodeType == node.TEXT_NODE)
        for item in bag.getElementsByTagNameNS(RDF, "li")
    }
    prefix = bag.prefix or "rdf"
    for keyword in keywords:
        if keyword not in known:
            item = document.createElementNS(RDF, f"{prefix}:li")
            item.appendChild(document.createTextNode(keyword))
            bag.appendChild(item)
    for element in document.getElementsByTagName("*"):
        for attribute in dict(element.attributes.items()):
            element.setAttribute(attribute, element.getAttribute(attribute).translate(MARKS))
    text = "".join(f"{node.toxml()}\n" for node in document.childNodes)
    return text.translate({ord(mark): f"&#{letter};" for letter, mark in MARKS.items()})


def _new_bag(document: minidom.Document, description: minidom.Element) -> minidom.Element:
    prefix = description.prefix or "rdf"
    if not description.getAttributeNS("http://www.w3.org/2000/xmlns/", "dc"):
        description.setAttributeNS("http://www.w3.org/2000/xmlns/", "xmlns:dc", DC)
    subject = document.createElementNS(DC, "dc:subject")
    bag = document.createElementNS(RDF, f"{prefix}:Bag")
    subject.appendChild(bag)
    description.appendChild(subject)
    return bag


# the choices of --format that are printed; the other one is XMP
TEXTS: dict[str, Callable[[TaggedImage], str]] = {"json": as_json, "csv": as_csv}
HEADERS = {"csv": ["path,label,score"]}
