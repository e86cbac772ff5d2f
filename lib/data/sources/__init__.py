"""A user's own annotations: one form a file, each read into rows of the same kind.

A form is two functions: whether a source is of this form, and its rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lib.common.errors import UserError
from lib.data.sources.annotations import SPLIT_NAMES, Annotations, ReadOptions, Row
from lib.data.sources.coco import is_coco, read_coco
from lib.data.sources.cvat import is_cvat, read_cvat
from lib.data.sources.fiftyone import is_fiftyone, read_fiftyone
from lib.data.sources.json_files import keys_of
from lib.data.sources.label_studio import is_label_studio, read_label_studio
from lib.data.sources.records import is_records, read_records
from lib.data.sources.tables.images import is_image_table, read_image_table
from lib.data.sources.tables.multi_hot import is_multi_hot_table, read_multi_hot_table
from lib.data.sources.tables.objects import is_object_table, read_object_table
from lib.data.sources.voc import is_voc, read_voc
from lib.data.sources.yolo import is_yolo, read_yolo


class Form(NamedTuple):
    """A form of annotations: its name in messages, its test, its reader, which adds notes on how it
    reads the source, and those of `SPECIAL_OPTIONS` that the reader heeds."""

    name: str
    matches: Callable[[Path, ReadOptions], bool]
    read: Callable[[Path, ReadOptions, list[str]], Iterator[Row]]
    options: tuple[str, ...] = ()


# the first form that matches a source reads it
FORMS = (
    Form(
        "a CSV table with a row an object",
        is_object_table,
        read_object_table,
        ("path_column", "labels_column", "blank_unknown"),
    ),
    Form(
        "a CSV table with a column a label",
        is_multi_hot_table,
        read_multi_hot_table,
        ("path_column", "label_columns", "not_labels", "blank_unknown"),
    ),
    Form(
        "a CSV table with a row an image",
        is_image_table,
        read_image_table,
        ("path_column", "labels_column", "separator"),
    ),
    Form("a COCO .json file", is_coco, read_coco),
    Form("a Label Studio .json file", is_label_studio, read_label_studio, ("labels_column",)),
    Form("FiftyOne's labels.json", is_fiftyone, read_fiftyone),
    Form(
        "a .jsonl file (Hugging Face's metadata.jsonl) or a .json list",
        is_records,
        read_records,
        ("path_column", "labels_column", "separator"),
    ),
    Form("a YOLO data.yaml", is_yolo, read_yolo),
    Form("a CVAT .xml file", is_cvat, read_cvat),
    Form("a folder of VOC .xml files", is_voc, read_voc, ("recursive",)),
)
# the fields of `ReadOptions` that only some forms heed
SPECIAL_OPTIONS = (
    *("path_column", "labels_column", "label_columns", "not_labels", "separator"),
    *("blank_unknown", "recursive"),
)
# files that stand for the folder that holds them
FILES_OF_FOLDERS = (
    *("metadata.jsonl", "metadata.csv", "_annotations.coco.json", "_annotations.csv"),
    *("_classes.csv", "data.yaml", "data.yml", "labels.json", "annotations.xml", "result.json"),
    *("annotations/instances_default.json", "annotations.csv", "labels.csv"),
)
ANNOTATION_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml")
EXPORT = {
    ".xlsx": "save it as CSV (UTF-8) in the spreadsheet program",
    ".xls": "save it as CSV (UTF-8) in the spreadsheet program",
    ".ods": "save it as CSV (UTF-8) in the spreadsheet program",
    ".parquet": 'export it, for example: python -c "import pandas; '
    "pandas.read_parquet('FILE').to_csv('FILE.csv', index=False)\"",
    ".zip": "unpack it",
    ".gz": "unpack it",
    ".tar": "unpack it",
}


def read_source(source: Path, options: ReadOptions | None = None) -> Annotations:
    """Read annotations of any form; a folder may hold one of `FILES_OF_FOLDERS`, or folders train,
    val and test with annotations each.

    Raises `UserError` for a source of no form, and for one without images.
    """
    options = options or ReadOptions()
    found = Annotations("", [], [])
    forms: list[Form] = []
    parts = _parts(source, options)
    if source.is_dir() and len(parts) == 1 and parts[0][0] != source:
        others = [file.name for file in _annotation_files(source) if file != parts[0][0]]
        found.notes += [f"{source}: not read: {', '.join(others[:6])}"] if others else []
    for part, split in parts:
        form = _form(part, options)
        if form is None:
            raise UserError(f"{source}: {_why_not(source, options)}")
        forms.append(form)
        notes: list[str] = []
        for row in form.read(part, options, notes):
            found.rows.append(row if row.split or not split else row._replace(split=split))
        found.notes += [f"{part}: {note}" for note in notes]
    found.form = ", ".join(dict.fromkeys(form.name for form in forms))
    found.heeded = {name for form in forms for name in form.options}
    if not found.rows:
        raise UserError(f"{source}: names no image (read as {found.form})")
    return found


def _parts(source: Path, options: ReadOptions) -> list[tuple[Path, str | None]]:
    """The sources that make up a source, and the split of each."""
    if not source.is_dir():
        return [(source, None)]
    if found := [source / name for name in FILES_OF_FOLDERS if (source / name).is_file()]:
        return [(found[0], None)]
    if is_voc(source, replace(options, recursive=False)):
        return [(source, None)]
    parts: list[tuple[Path, str | None]] = []
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        if split := SPLIT_NAMES.get(folder.name.lower()):
            parts += [(part, split) for part, _ in _parts(folder, options)]
    if parts := [one for one in parts if _form(one[0], options)]:
        return parts
    if is_voc(source, options):
        return [(source, None)]
    files = _annotation_files(source)
    yaml = [file for file in files if file.suffix.lower() in (".yaml", ".yml")]
    if not yaml and _has_yolo_folders(source):
        return [(source, None)]
    only = yaml if len(yaml) == 1 else files
    return [(only[0] if len(only) == 1 else source, None)]


def _has_yolo_folders(source: Path) -> bool:
    return (source / "images").is_dir() and (source / "labels").is_dir()


def _annotation_files(folder: Path) -> list[Path]:
    """The files in a folder that may hold annotations."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in ANNOTATION_ENDINGS)
    return sorted(file for file in files if file.is_file() and not file.name.startswith("."))


def _form(source: Path, options: ReadOptions) -> Form | None:
    return next((form for form in FORMS if form.matches(source, options)), None)


def _why_not(source: Path, options: ReadOptions) -> str:
    """Why a source is of no form, and what to do."""
    if not source.exists():
        return "no such file or folder"
    if remedy := EXPORT.get(source.suffix.lower()):
        return f"a {source.suffix} file is not read; {remedy}"
    if source.is_dir() and any(source.glob("*/*.[xX][mM][lL]")):
        return "has .xml files in sub-folders only; --recursive reads them"
    if _has_yolo_folders(source):
        return "looks like a YOLO data set without data.yaml: write one with train, val and names"
    if keys := sorted(keys_of(source) or ()):
        return f"JSON with the keys {', '.join(keys[:8])}; expected a form of {JSON_FORMS}"
    if source.is_dir():
        if files := [file.name for file in _annotation_files(source)]:
            if len(files) == 1:
                return f"holds {files[0]}, which is in no form that is read: {_NAMES}"
            return f"holds several annotation files ({', '.join(files[:6])}): pass one of them"
        names = ", ".join(sorted(path.name for path in source.iterdir())[:6])
        return (
            f"a folder without annotations ({names or 'empty'}); for images alone, write a table "
            "with a line path,labels for each"
        )
    return f"not understood; expected {_NAMES}"


_NAMES = ", ".join(form.name for form in FORMS)
JSON_FORMS = (
    "COCO (images, annotations, categories), FiftyOne (classes, labels), or a list of records or "
    "of Label Studio's tasks"
)
