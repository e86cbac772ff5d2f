"""A user's own annotations: one form a file, each read into images of the same kind.

A form is a row of `FORMS`, and a function that reads a source.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.sources.annotations import SPLIT_NAMES, AnnotatedImage, ReadOptions
from lib.data.sources.cvat import read_cvat
from lib.data.sources.json_forms.coco import read_coco
from lib.data.sources.json_forms.fiftyone import read_fiftyone
from lib.data.sources.json_forms.json_files import kind_of_json
from lib.data.sources.json_forms.label_studio import KEYS_OF_ROWS, read_label_studio
from lib.data.sources.json_forms.records import read_records
from lib.data.sources.tables.images import read_image_table
from lib.data.sources.tables.multi_hot import read_multi_hot_table
from lib.data.sources.tables.objects import read_object_table
from lib.data.sources.tables.table import open_table
from lib.data.sources.voc import read_voc, xml_files
from lib.data.sources.yolo import read_yolo


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
    Form("a COCO .json file", ".json object", read_coco, keys="images annotations categories"),
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
    Form("a CVAT .xml file", ".xml", read_cvat),
    Form("a folder of VOC .xml files", "folder of .xml files", read_voc, "recursive"),
)
NAMES = ", ".join(form.name for form in FORMS)
# files that stand for the folder that holds them
FILES_OF_FOLDERS = (
    *("metadata.jsonl", "metadata.csv", "_annotations.coco.json", "_annotations.csv"),
    *("_classes.csv", "data.yaml", "data.yml", "labels.json", "annotations.xml", "result.json"),
    *("annotations/instances_default.json", "annotations.csv", "labels.csv"),
)
YAML = (".yaml", ".yml")
ANNOTATION_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", *YAML)
REMEDIES = dict.fromkeys((".zip", ".gz", ".tar"), "unpack it") | dict.fromkeys(
    (".xlsx", ".xls", ".ods", ".parquet"), "save it as CSV (UTF-8), by its program or by pandas"
)


def read_source(
    source: Path, options: ReadOptions | None = None
) -> tuple[list[AnnotatedImage], list[Form]]:
    """Read annotations of any form, and say which; a folder may hold one of `FILES_OF_FOLDERS`, or
    folders train, val and test with annotations each.

    Raises `UserError` for a source of no form, and for one without images.
    """
    options = options or ReadOptions()
    parts = [(part, split, _form(part, options)) for part, split in _parts(source, options)]
    forms = list(dict.fromkeys(form for _, _, form in parts if form))
    if not forms:
        raise UserError(f"{source}: {_why_not(source)}")
    names = ", ".join(form.name for form in forms)
    print_line(f"{source}: read as {names}")
    if source.is_dir() and len(parts) == 1 and parts[0][0] != source:
        others = [file.name for file in _annotation_files(source) if file != parts[0][0]]
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


def _form(source: Path, options: ReadOptions) -> Form | None:
    kind, keys = _kind_of(source, options)
    fitting = (form for form in FORMS if form.kind == kind)
    return next((form for form in fitting if not form.keys or keys & {*form.keys.split()}), None)


def _kind_of(source: Path, options: ReadOptions) -> tuple[str, set[str]]:
    """The kind of a source, and the keys of a .json file."""
    ending = source.suffix.lower()
    if source.is_dir():
        has_files = any(True for _ in xml_files(source, options.recursive))
        return "folder of .xml files" if has_files else "folder", set()
    if not source.is_file():
        return "nothing", set()
    if ending == ".json":
        return kind_of_json(source)
    if ending in (".csv", ".tsv"):
        return open_table(source, options).kind, set()
    others = {".jsonl": ".json list", ".ndjson": ".json list", ".yml": ".yaml"}
    return others.get(ending, ending), set()


def _parts(source: Path, options: ReadOptions) -> Sequence[tuple[Path, str | None]]:
    """The sources that make up a source, and the split of each."""
    if not source.is_dir():
        return [(source, None)]
    if found := [source / name for name in FILES_OF_FOLDERS if (source / name).is_file()]:
        return [(found[0], None)]
    if any(True for _ in xml_files(source, recursive=False)):
        return [(source, None)]
    parts = [
        (part, split)
        for folder in sorted(path for path in source.iterdir() if path.is_dir())
        if (split := SPLIT_NAMES.get(folder.name.lower()))
        for part, _ in _parts(folder, options)
        if _form(part, options)
    ]
    if parts:
        return parts
    files = _annotation_files(source)
    yaml = [file for file in files if file.suffix.lower() in YAML]
    files = yaml if len(yaml) == 1 else files
    is_folder = len(files) != 1 or _form(source, options) or (_is_yolo_folder(source) and not yaml)
    return [(source if is_folder else files[0], None)]


def _is_yolo_folder(source: Path) -> bool:
    return (source / "images").is_dir() and (source / "labels").is_dir()


def _annotation_files(folder: Path) -> list[Path]:
    """The files in a folder that may hold annotations."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in ANNOTATION_ENDINGS)
    return sorted(file for file in files if file.is_file() and not file.name.startswith("."))


def _why_not(source: Path) -> str:
    """Why a source is of no form, and what to do."""
    if not source.exists():
        return "no such file or folder"
    if remedy := REMEDIES.get(source.suffix.lower()):
        return f"a {source.suffix} file is not read; {remedy}"
    if not source.is_dir():
        kind, keys = _kind_of(source, ReadOptions())
        has = f"a {kind} with {', '.join(sorted(keys)[:8])}, " if keys else ""
        return f"{has}in no form that is read: {NAMES}"
    if any(source.glob("*/*.[xX][mM][lL]")):
        return "has .xml files in sub-folders only; --recursive reads them"
    if _is_yolo_folder(source):
        return "looks like a YOLO data set without data.yaml: write one with train, val and names"
    files = [file.name for file in _annotation_files(source)]
    if len(files) > 1:
        return f"holds several annotation files ({', '.join(files[:6])}): pass one of them"
    if files:
        return f"holds {files[0]}, in no form that is read: {NAMES}"
    names = ", ".join(sorted(path.name for path in source.iterdir())[:6])
    return (
        f"a folder without annotations ({names or 'empty'}); for images alone, write a table with "
        "a line path,labels for each"
    )
