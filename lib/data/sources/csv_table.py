"""A .csv or .tsv file: columns `path`, `labels` (several of them in one cell), perhaps `split`."""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from lib.common.errors import UserError
from lib.common.readers import numbered_lines
from lib.data.sources.annotations import Row, text_row


def is_csv(source: Path) -> bool:
    """Whether `source` is a table of this form."""
    return source.suffix.lower() in (".csv", ".tsv") and source.is_file()


def read_csv(file: Path, images: Path | None) -> Iterator[Row]:
    """Rows of a table; its header decides which separator it has: comma, semicolon or tab."""
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
            position = f"{file}:{reader.line_num}"
            if None in record or None in record.values():
                raise UserError(
                    f"{position}: {len(columns)} fields expected; quote what has a comma"
                )
            yield text_row(record["path"], record["labels"], record.get("split"), images, position)
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: not CSV: {error}") from error
