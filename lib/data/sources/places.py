"""The files in a folder that hold annotations, the split of each, and why there are none."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lib.common.errors import UserError
from lib.data.sources.annotations import SPLIT_NAMES
from lib.data.sources.folders.voc import xml_files
from lib.data.sources.json_forms.json_files import kind_of_json, seems
from lib.data.sources.json_forms.labelme import is_labelme, labelme_files
from lib.data.sources.tables.table import csv_rows

# files that stand for the folder that holds them
FILES_OF_FOLDERS = (
    *("metadata.jsonl", "metadata.csv", "_annotations.coco.json", "_annotations.csv"),
    *("_classes.csv", "data.yaml", "data.yml", "labels.json", "annotations.xml", "result.json"),
    *("annotations/instances_default.json", "annotations.csv", "labels.csv"),
)
YAML, TABLES, LISTS = (".yaml", ".yml"), (".csv", ".tsv"), (".txt", ".lst")
ENDINGS = (*TABLES, ".json", ".jsonl", *YAML)
REMEDIES = {
    **dict.fromkeys((".zip", ".gz", ".tar"), "unpack it"),
    **dict.fromkeys(
        (".xlsx", ".xls", ".ods", ".parquet"), "save it as CSV (UTF-8), by its program or by pandas"
    ),
    **dict.fromkeys(
        (".tfrecord", ".record"), "write its images as files, and a CSV of their labels"
    ),
    ".manifest": "of SageMaker Ground Truth: write a CSV with path,labels from its lines",
}
Part = tuple[Path, str | None]


def parts_of(source: Path, form_of: Callable[[Path], object]) -> Sequence[Part]:
    """The sources that make up a source, and the split of each; `form_of` gives the form of a file
    or folder, if it has one."""
    if not source.is_dir():
        return [(source, None)]
    if found := [source / name for name in FILES_OF_FOLDERS if (source / name).is_file()]:
        return [(found[0], None)]
    if any(xml_files(source, recursive=False)):
        return [(source, None)]
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    if roots := [one for one in (source, *folders) if _is_voc_root(one)]:
        return [(one / "Annotations", None) for one in roots]
    parts = [
        (part, split)
        for folder in folders
        if (split := SPLIT_NAMES.get(folder.name.lower()))
        for part, _ in parts_of(folder, form_of)
        if form_of(part)
    ]
    if parts or any(map(is_labelme, labelme_files(source)[:1])):
        return parts or [(source, None)]
    return _files_or_folder(source, form_of)


def _files_or_folder(source: Path, form_of: Callable[[Path], object]) -> Sequence[Part]:
    """The one file of annotations in a folder, several of one form, or the folder itself."""
    files = annotation_files(source)
    yaml = [file for file in files if file.suffix.lower() in YAML]
    files = yaml if len(yaml) == 1 else files
    has_xml = form_of(source) and any(xml_files(source, recursive=True))
    if len(files) == 1 and not has_xml and (yaml or not _is_yolo_folder(source)):
        return [(files[0], None)]
    if not files and not form_of(source):  # lists named train and test
        files = [file for file in sorted(source.iterdir()) if file.suffix.lower() in LISTS]
        files = [file for file in files if _split_of(file)]
    if files and _are_alike(files, form_of):
        splits = [_split_of(file) for file in files]
        return list(zip(files, splits if "train" in splits else [None] * len(files), strict=True))
    return [(source, None)]


def _are_alike(files: Sequence[Path], form_of: Callable[[Path], object]) -> bool:
    """Whether files are of one form, and tables of the same columns."""
    try:
        forms = {form_of(file) for file in files}
    except UserError:
        return False
    tables = [file for file in files if file.suffix.lower() in TABLES]
    headers = {tuple(next(csv_rows(file, ","), (1, []))[1]) for file in tables}
    return len(forms) == 1 and None not in forms and len(headers) < 2


def _split_of(file: Path) -> str | None:
    """The split that a word of a file's name is."""
    words = re.split(r"[\W_\d]+", file.stem.lower())
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def _is_voc_root(folder: Path) -> bool:
    annotations = folder / "Annotations"
    return annotations.is_dir() and any(xml_files(annotations, recursive=False))


def _is_yolo_folder(source: Path) -> bool:
    return (source / "images").is_dir() and (source / "labels").is_dir()


def annotation_files(folder: Path) -> list[Path]:
    """The files in a folder that may hold annotations."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
    return sorted(file for file in files if file.is_file() and not file.name.startswith("."))


def why_not(source: Path, forms: str) -> str:
    """Why a source is of no form, and what to do; `forms` are the names of all."""
    if not source.exists():
        return "no such file or folder"
    if remedy := REMEDIES.get(source.suffix.lower()):
        return f"a {source.suffix} file is not read; {remedy}"
    if not source.is_dir():
        if source.suffix.lower() != ".json":
            return f"in no form that is read: {forms}"
        if family := seems(source):
            return f"seems to be {family}"
        kind, keys = kind_of_json(source)
        return f"a {kind} with {', '.join(sorted(keys)[:8])}, in no form that is read: {forms}"
    if any(source.glob("*/*.[xX][mM][lL]")):
        return "has .xml files in sub-folders only; --recursive reads them"
    if _is_yolo_folder(source):
        return "looks like a YOLO data set without data.yaml: write one with train, val and names"
    files = [file.name for file in annotation_files(source)]
    if len(files) > 1:
        return f"holds several annotation files ({', '.join(files[:6])}): pass one of them"
    if files:
        return f"holds {files[0]}, in no form that is read: {forms}"
    names = sorted(path.name for path in source.iterdir())
    for name in names:
        if remedy := REMEDIES.get(Path(name).suffix.lower()):
            return f"holds {name}; {remedy}"
    return (
        f"a folder without annotations ({', '.join(names[:6]) or 'empty'}); for images alone, "
        "write a table with a line path,labels for each"
    )
