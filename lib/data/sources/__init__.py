"""A user's own annotations: one form a file, each read into images of the same kind.

A form is a row of `FORMS`, and a function that reads a source.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage, ReadOptions
from lib.data.sources.cvat import read_cvat
from lib.data.sources.folders.class_folders import class_folders, read_class_folders
from lib.data.sources.folders.label_lists import label_lists, read_label_lists
from lib.data.sources.folders.tag_files import has_tag_files, read_tag_files
from lib.data.sources.folders.voc import read_voc, xml_files
from lib.data.sources.folders.yolo import read_yolo
from lib.data.sources.json_forms.coco import read_coco
from lib.data.sources.json_forms.fiftyone import read_fiftyone
from lib.data.sources.json_forms.json_files import kind_of_json
from lib.data.sources.json_forms.label_studio import KEYS_OF_ROWS, read_label_studio
from lib.data.sources.json_forms.labelme import is_labelme, labelme_files, read_labelme
from lib.data.sources.json_forms.records import read_records
from lib.data.sources.json_forms.via import read_via
from lib.data.sources.json_forms.wider import read_wider
from lib.data.sources.places import LISTS, TABLES, annotation_files, parts_of, why_not
from lib.data.sources.tables.images import read_image_table
from lib.data.sources.tables.lists import is_list, read_list
from lib.data.sources.tables.multi_hot import read_multi_hot_table
from lib.data.sources.tables.objects import read_object_table
from lib.data.sources.tables.table import open_table


class Form(NamedTuple):
    """A form of annotations: its name in messages, the kind of its sources (see `_kind_of`), and
    its reader, which prints how it reads a source.

    `options` are the fields of `ReadOptions` that this form heeds, and not every form. A .json file
    also has one of `keys`. Both are words with spaces between them.
    """

    name: str
    kind: str
    read: Callable[[Path, ReadOptions], list[AnnotatedImage]]
    options: str = ""
    keys: str = ""


# the first form that fits a source reads it
FORMS = (
    Form(
        "a CSV table with a row an object",
        "table of objects",
        read_object_table,
        "path_column labels_column blank",
    ),
    Form(
        "a CSV table with a column a label",
        "table of marks",
        read_multi_hot_table,
        "path_column label_columns not_labels blank",
    ),
    Form(
        "a CSV table with a row an image",
        "table of images",
        read_image_table,
        "path_column labels_column",
    ),
    Form("a list with a line an image", "list", read_list),
    Form("WIDER Attribute's .json file", ".json object", read_wider, keys="attribute_id_map"),
    Form("a COCO .json file", ".json object", read_coco, keys="images annotations categories"),
    Form("LabelMe's .json file", ".json object", read_labelme, keys="shapes"),
    Form("VIA's .json file", ".json object", read_via, "labels_from", "_via_img_metadata"),
    Form("VIA's .json file", ".json object of objects", read_via, "labels_from", "regions"),
    Form(
        "a Label Studio .json file",
        ".json list",
        read_label_studio,
        "labels_column",
        f"data {KEYS_OF_ROWS}",
    ),
    Form("FiftyOne's labels.json", ".json object", read_fiftyone, keys="labels"),
    Form(
        "a .jsonl file (Hugging Face's metadata.jsonl) or a .json list",
        ".json list",
        read_records,
        "path_column labels_column",
    ),
    Form("a YOLO data.yaml", ".yaml", read_yolo),
    Form("a CVAT .xml file", ".xml", read_cvat, "labels_from"),
    Form("a folder of VOC .xml files", "folder of .xml files", read_voc, "recursive"),
    Form("a folder of LabelMe's .json files", "folder of .json files", read_labelme),
    Form("a folder of pictures with .txt files of tags", "folder of pictures", read_tag_files),
    Form("a folder of .txt files, one a label", "folder of lists", read_label_lists),
    Form("a folder of pictures for each label", "folder of folders", read_class_folders),
)
NAMES = ", ".join(form.name for form in FORMS)


def read_source(
    source: Path, options: ReadOptions | None = None
) -> tuple[list[AnnotatedImage], list[Form]]:
    """Read annotations of any form, and say which; a folder may hold one of `FILES_OF_FOLDERS`, or
    folders train, val and test with annotations each.

    Raises `UserError` for a source of no form, and for one without images.
    """
    options = options or ReadOptions()

    def form_of(path: Path) -> Form | None:
        return _form(path, options)

    parts = [(part, split, form_of(part)) for part, split in parts_of(source, form_of)]
    forms = list(dict.fromkeys(form for _, _, form in parts if form))
    if not forms:
        raise UserError(f"{source}: {why_not(source, NAMES)}")
    names = ", ".join(form.name for form in forms)
    print_line(f"{source}: read as {names}")
    if source.is_dir() and len(parts) == 1 and parts[0][0] != source:
        others = [file.name for file in annotation_files(source) if file != parts[0][0]]
        if others:
            print_line(f"{source}: not read: {', '.join(others[:6])}")
    images = []
    for part, split, form in parts:
        for image in form.read(part, options) if form else ():
            image.split = image.split or split
            images.append(image)
    if not images:
        raise UserError(f"{source}: names no image (read as {names})")
    return images, forms


def require_same_columns(sources: Sequence[Path], options: ReadOptions) -> None:
    """Raise `UserError` for tables with a column a label that have other columns: an image of one
    has no known answer for the labels of the other."""
    kinds = [(one, _kind_of(one, options)[0]) for one in sources if one.suffix.lower() in TABLES]
    tables = [open_table(one, options) for one, kind in kinds if kind == "table of marks"]
    for table in tables[1:] if not options.label_columns else ():
        different = {*table.columns} ^ {*tables[0].columns}
        if other := sorted(different - {name.lower() for name in options.not_labels}):
            raise UserError(
                f"{table.file}:1: has a column {other[0]!r}, or lacks it, unlike {tables[0].file}: "
                "--label-columns A,B names those of both"
            )


# kinds of folders, and whether a folder is of them
FOLDERS: dict[str, Callable[[Path, ReadOptions], object]] = {
    "folder of .xml files": lambda path, options: any(xml_files(path, options.recursive)),
    "folder of .json files": lambda path, options: any(map(is_labelme, labelme_files(path)[:1])),
    "folder of pictures": lambda path, options: has_tag_files(path),
    "folder of lists": lambda path, options: label_lists(path),
    "folder of folders": lambda path, options: class_folders(path),
}


def _form(source: Path, options: ReadOptions) -> Form | None:
    kind, keys = _kind_of(source, options)
    fitting = (form for form in FORMS if form.kind == kind)
    return next((form for form in fitting if not form.keys or keys & {*form.keys.split()}), None)


def _kind_of(source: Path, options: ReadOptions) -> tuple[str, set[str]]:
    """The kind of a source, and the keys of a .json file."""
    ending = source.suffix.lower()
    if source.is_dir():
        kinds = (
            (kind, found) for kind, holds in FOLDERS.items() if (found := holds(source, options))
        )
        return next(kinds, ("folder", False))[0], set()
    if not source.is_file():
        return "nothing", set()
    if ending == ".json":
        return kind_of_json(source)
    if ending in (*TABLES, *LISTS):
        is_table = options.path_column or not is_list(source, ending in LISTS)
        return open_table(source, options).kind if is_table else "list", set()
    others = {".jsonl": ".json list", ".ndjson": ".json list", ".yml": ".yaml"}
    return others.get(ending, ending), set()
