"""A folder of .xml files in the form of Pascal VOC, one for each image."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.data.sources.annotations import AnnotatedImage, ReadOptions, image_at
from lib.data.sources.cells import finite, picture_size

EDGES = ("xmin", "ymin", "xmax", "ymax")
Object = tuple[str, list[float] | None, bool]  # its label, its box if it has one, is it difficult


def read_voc(folder: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """An image for each .xml file.

    `filename` may lack its ending, have another one, or be wrong: then the .xml file's own name
    counts.
    """
    files = sorted(xml_files(folder, options.recursive))
    if others := set(xml_files(folder, recursive=True)) - set(files):
        inside = ", ".join(sorted({file.parent.name for file in others})[:5])
        print_line(
            f"{folder}: left out: {len(others)} .xml files in sub-folders ({inside}): --recursive"
        )
    splits = _listed_splits(folder)
    if splits and (unlisted := [file for file in files if file.stem not in splits]):
        print_line(f"{folder}: left out: {len(unlisted)} .xml files in no list of ImageSets/Main")
        files = [file for file in files if file.stem in splits]
    images = []
    for file in files:
        root = _read_annotation(file)
        name = (root.findtext("filename") or "").strip().replace("\\", "/")
        inner = file.parent.relative_to(folder)  # --images may have the same sub-folders
        names = [name, Path(name).name, Path(name).stem, file.stem]
        names += [f"{inner / one}" for one in (name or file.stem, file.stem) if options.images]
        roots = dict.fromkeys((folder.parent, file.parent.parent))
        folders = (file.parent, folder, *(root / "JPEGImages" for root in roots))
        image = image_at(names, options, folders, str(file))
        image.split = splits.get(file.stem)
        image.size = picture_size(root.findtext("size/width"), root.findtext("size/height"))
        for found in _objects(root, file):
            image.add(*found)
        images.append(image)
    return images


def _listed_splits(folder: Path) -> dict[str, str]:
    """The split of each name in the lists beside a folder Annotations, if there are any."""
    lists = folder.parent / "ImageSets" / "Main"
    found: dict[str, str] = {}
    for name, split in (
        ("trainval", "train"),
        ("train", "train"),
        ("val", "val"),
        ("test", "test"),
    ):
        file = lists / f"{name}.txt"
        if folder.name == "Annotations" and file.is_file():
            words = (line.split() for _, line in numbered_lines(file))
            found |= {one[0]: split for one in words if one}
    return found


def read_objects(file: Path) -> list[Object]:
    """The objects of one annotation. Raises `UserError` for a file of another form."""
    return _objects(_read_annotation(file), file)


def read_xml(file: Path) -> ElementTree.Element:
    """The root of an .xml file. Raises `UserError` for one that cannot be read."""
    try:
        return ElementTree.parse(file).getroot()
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such annotation") from error
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{file}: not a readable annotation: {error}") from error


def _read_annotation(file: Path) -> ElementTree.Element:
    root = read_xml(file)
    if root.tag != "annotation":
        raise UserError(f"{file}: not an annotation of VOC's form, but a <{root.tag}>")
    return root


def _objects(root: ElementTree.Element, file: Path) -> list[Object]:
    objects = []
    for element in root.iter("object"):
        label = (element.findtext("name") or "").strip()
        if not label:
            raise UserError(f"{file}: an object without a name")
        box = None
        if element.find("bndbox") is not None:
            try:
                box = [finite(element.findtext(f"bndbox/{edge}")) for edge in EDGES]
            except ValueError as error:
                raise UserError(f"{file}: an object ({label}) without a full box") from error
        difficult = (element.findtext("difficult") or "0").strip().lower() in ("1", "true")
        objects.append((label, box, difficult))
    return objects


def xml_files(folder: Path, recursive: bool) -> Iterator[Path]:
    """The .xml files of a folder, without those that begin with a point (`._` on macOS)."""
    found = folder.rglob("*") if recursive else folder.iterdir()
    for file in found:
        if file.suffix.lower() == ".xml" and not file.name.startswith(".") and file.is_file():
            yield file
