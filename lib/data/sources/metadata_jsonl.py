"""An image folder with `metadata.jsonl`: a line of JSON for each image."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.data.sources.annotations import Row, text_row

FILE = "metadata.jsonl"


def is_metadata(source: Path) -> bool:
    """Whether `source` is a folder of this form."""
    return source.is_dir() and (source / FILE).is_file()


def read_metadata(folder: Path, images: Path | None) -> Iterator[Row]:
    """Lines of `{"file_name": ..., "labels": [...]}` (or text), perhaps with "split"."""
    file = folder / FILE
    for number, line in numbered_lines(file):
        if not line.strip():
            continue
        position = f"{file}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{position}: not JSON: {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("file_name"), str):
            raise UserError(f'{position}: expected {{"file_name": ..., "labels": [...]}}')
        labels: Any = record.get("labels", record.get("label"))
        texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        if not texts and not isinstance(labels, str):
            raise UserError(f"{position}: labels must be text or a list of texts")
        yield text_row(record["file_name"], labels, record.get("split"), images or folder, position)
