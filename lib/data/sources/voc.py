"""A folder of .xml files in the form of Pascal VOC, one for each image."""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, Row, image_paths
from lib.data.sources.cells import finite

EDGES = ("xmin", "ymin", "xmax", "ymax")


def is_voc(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is a folder of .xml files, with --recursive also in sub-folders."""
    return source.is_dir() and any(True for _ in _xml_files(source, options.recursive))


def read_voc(folder: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """A row for each .xml file, without a split.

    `filename` may lack its ending, have another one, or be wrong: then the .xml file's own name
    counts.
    """
    below = Counter(file.parent.name for file in _xml_files(folder, recursive=True))
    files = sorted(_xml_files(folder, options.recursive))
    if left_out := sum(below.values()) - len(files):
        names = ", ".join(sorted(set(below) - {folder.name})[:5])
        notes.append(f"left out: {left_out} .xml files in sub-folders ({names}): --recursive")
    for file in files:
        root = read_annotation(file)
        name = (root.findtext("filename") or "").strip().replace("\\", "/")
        folders = (file.parent, folder, folder.parent / "JPEGImages")
        paths = image_paths(name, options, folders) if name else []
        for other in (Path(name).name, Path(name).stem, file.stem):
            paths += image_paths(other, options, folders) if other else []
        if options.images and file.parent != folder:
            inner = options.images / file.parent.relative_to(folder)
            paths += [(inner / (name or file.stem)).as_posix(), (inner / file.stem).as_posix()]
        image = annotated(Path(paths[0]), objects_of(root, file))
        image.other_paths = list(dict.fromkeys(paths[1:]))
        image.size = _size(root)
        yield Row(image, None, str(file))


def annotated(path: Path, objects: list[dict[str, Any]]) -> AnnotatedImage:
    """An image with the labels of its objects; a label is difficult if all its objects are.

    Objects without a box give labels only.
    """
    labels = {found["label"] for found in objects if not found["difficult"]}
    difficult = {found["label"] for found in objects} - labels
    boxes = [found for found in objects if found["box"]]
    return AnnotatedImage(path.as_posix(), labels, difficult=difficult, objects=boxes)


def read_objects(file: Path, labels: Collection[str] | None = None) -> list[dict[str, Any]]:
    """`objects_of` a file."""
    return objects_of(read_annotation(file), file, labels)


def objects_of(
    root: ElementTree.Element, file: Path, labels: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """The objects `{label, box, difficult}` of one annotation; `box` is None where it has none.

    With `labels`, in lower case, the objects' labels become lower case too, and each needs a box.
    Raises `UserError` for
    files of another form, and for labels that are not among `labels`.
    """
    objects = []
    for element in root.iter("object"):
        label = (element.findtext("name") or "").strip()
        if labels is not None:
            label = label.lower()
            if label not in labels:
                raise UserError(f"{file}: {label!r} is not one of the {len(labels)} labels")
        if not label:
            raise UserError(f"{file}: an object without a name")
        box, frame = None, element.find("bndbox")
        if frame is not None or labels is not None:
            try:
                box = [_number(element.findtext(f"bndbox/{edge}")) for edge in EDGES]
            except (TypeError, ValueError) as error:
                raise UserError(f"{file}: an object ({label}) without a full box") from error
        difficult = (element.findtext("difficult") or "0").strip().lower() in ("1", "true")
        objects.append({"label": label, "box": box, "difficult": difficult})
    return objects


def read_annotation(file: Path) -> ElementTree.Element:
    """The root of an annotation file."""
    root = read_xml(file)
    if root.tag != "annotation":
        raise UserError(f"{file}: not an annotation of VOC's form, but a <{root.tag}>")
    return root


def read_xml(file: Path) -> ElementTree.Element:
    """The root of an .xml file. Raises `UserError` for one that cannot be read."""
    try:
        return ElementTree.parse(file).getroot()
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such annotation") from error
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{file}: not a readable annotation: {error}") from error


def _xml_files(folder: Path, recursive: bool) -> Iterator[Path]:
    """The .xml files of a folder, without those that begin with a point (`._` on macOS)."""
    found = folder.rglob("*") if recursive else folder.iterdir()
    for file in found:
        if file.suffix.lower() == ".xml" and not file.name.startswith(".") and file.is_file():
            yield file


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Width and height as the file says; None where it does not, or says 0."""
    try:
        width, height = (int(finite(root.findtext(f"size/{side}"))) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _number(text: str | None) -> int | float:
    value = finite(text)
    return int(value) if value.is_integer() else value
