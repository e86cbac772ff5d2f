"""A user's own annotations in the forms that are about: CSV, COCO JSON, VOC XML, metadata.jsonl.

Every form becomes rows of one kind: a `Sample`, and the split that it names, if any.
"""

import csv
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.data.lists import UNKNOWN, check_label
from lib.data.sources.coco import read_instances, samples_of
from lib.data.sources.voc import read_annotation, read_objects
from lib.data.writer import AnnotatedImage

SEPARATORS = ",;|"
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
FORMS = (
    "a .csv or .tsv file, a COCO .json file, a folder of VOC .xml files or one with metadata.jsonl"
)


class Row(NamedTuple):
    """One image, its split (train, val, test, or None where the source names none), and where it
    stands in the source."""

    sample: AnnotatedImage
    split: str | None
    place: str


def read_source(source: Path, images: Path | None) -> list[Row]:
    """Read annotations of any form; `images` is where their files are, if not beside them."""
    if source.is_dir() and (source / "metadata.jsonl").is_file():
        rows = _read_metadata(source / "metadata.jsonl", images or source)
    elif source.is_dir() and any(source.glob("*.xml")):
        rows = _read_voc(source, images)
    elif source.suffix.lower() in (".csv", ".tsv") and source.is_file():
        rows = _read_csv(source, images)
    elif source.suffix.lower() == ".json" and source.is_file():
        instances = read_instances(source)
        samples, _ = samples_of(instances, images or source.parent, source, keep_empty=True)
        rows = (Row(sample, None, str(source)) for sample in samples)
    elif source.exists():
        raise UserError(f"{source}: not understood; expected {FORMS}")
    else:
        raise UserError(f"{source}: no such file or folder; expected {FORMS}")
    found = list(rows)
    if not found:
        raise UserError(f"{source}: names no image")
    return found


def _read_csv(file: Path, images: Path | None) -> Iterator[Row]:
    """Columns `path`, `labels` (several with `,`, `;` or `|` between them) and perhaps `split`.

    What stands between columns is what stands in the header: comma, semicolon or tab.
    """
    lines = (line + "\n" for _, line in numbered_lines(file))
    header = next(lines, "")
    delimiter = next((one for one in ",;\t" if one in header), ",")
    reader = csv.DictReader(itertools.chain([header], lines), strict=True, delimiter=delimiter)
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        if not {"path", "labels"} <= set(columns) or len(set(columns)) < len(columns):
            raise UserError(
                f"{file}:1: expected a header path,labels[,split], each once, found "
                f"{','.join(columns) or '-'}"
            )
        reader.fieldnames = columns
        for record in reader:
            place = f"{file}:{reader.line_num}"
            if None in record or None in record.values():
                raise UserError(f"{place}: {len(columns)} fields expected; quote what has a comma")
            yield _row(record["path"], record["labels"], record.get("split"), images, place)
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: not CSV: {error}") from error


def _read_metadata(file: Path, images: Path) -> Iterator[Row]:
    """Lines of `{"file_name": ..., "labels": [...]}` (or text), perhaps with "split"."""
    for number, line in numbered_lines(file):
        if not line.strip():
            continue
        place = f"{file}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: not JSON: {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("file_name"), str):
            raise UserError(f'{place}: expected {{"file_name": ..., "labels": [...]}}')
        labels = record.get("labels", record.get("label"))
        if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
            yield _row(record["file_name"], labels, record.get("split"), images, place)
        elif isinstance(labels, str):
            yield _row(record["file_name"], labels, record.get("split"), images, place)
        else:
            raise UserError(f"{place}: labels must be text or a list of texts")


def _read_voc(folder: Path, images: Path | None) -> Iterator[Row]:
    """An .xml file an image; a label counts unless all its objects are difficult."""
    for file in sorted(folder.glob("*.xml")):
        name = (read_annotation(file).findtext("filename") or "").strip()
        objects = read_objects(file)
        sure = {found["label"] for found in objects if not found["difficult"]}
        doubtful = {found["label"] for found in objects} - sure
        path = (images or folder) / (name or f"{file.stem}.jpg")
        sample = AnnotatedImage(path.as_posix(), sure, doubtful=doubtful, objects=objects)
        yield Row(sample, None, str(file))


def _row(path: str, labels: str | list[str], split: object, images: Path | None, place: str) -> Row:
    """A row of texts; `?label` is unknown."""
    if isinstance(labels, str):
        for separator in SEPARATORS[1:]:
            labels = labels.replace(separator, SEPARATORS[0])
        labels = labels.split(SEPARATORS[0])
    names = dict.fromkeys(label.strip() for label in labels if label.strip())
    unknown = [name[1:] for name in names if name.startswith(UNKNOWN)]
    known = [name for name in names if not name.startswith(UNKNOWN)]
    for label in (*known, *unknown):
        check_label(label, place)
    if both := set(known) & set(unknown):
        raise UserError(f"{place}: label {both.pop()!r} is both known and unknown")
    if not path.strip():
        raise UserError(f"{place}: no path")
    where = None
    if split not in (None, ""):
        where = SPLITS.get(str(split).strip().lower())
        if where is None:
            raise UserError(f"{place}: split {split!r}: expected train, val or test")
    file = images / path.strip() if images else Path(path.strip())
    return Row(AnnotatedImage(file.as_posix(), known, unknown=unknown), where, place)
