"""Files that name labels: lines of old,new, and the names of numbers or codes."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import decode_json, numbered_lines
from lib.data.lists import check_label
from lib.data.sources.cells import clean
from lib.data.sources.tables.table import csv_rows

HEADERS = "attribute_id,attribute_name id,name code,name labelname,displayname old,new".split()
DELIMITERS = "\t,;"


def read_map(file: Path) -> dict[str, str]:
    """Read lines of `old,new`, also separated by `;` or a tab; a header of `HEADERS` is passed
    over. Raises `UserError` for others, and for an old name that comes twice."""
    lines = [line.replace(", ", "") for _, line in numbered_lines(file) if line.strip()]
    fitting = (one for one in DELIMITERS if lines and all(line.count(one) == 1 for line in lines))
    found: dict[str, str] = {}
    for line, cells in csv_rows(file, next(fitting, ",")):
        position = f"{file}:{line}"
        if not cells or (not found and ",".join(cells).lower() in HEADERS):
            continue
        if len(cells) != 2:
            raise UserError(
                f"{position}: expected old,new; found {len(cells)} fields: quote a name with a "
                'comma, "truck, big"'
            )
        old, new = map(clean, cells)
        if new:
            check_label(new.replace(",", " ").strip(), position)
        if old in found:
            raise UserError(f"{position}: {old!r} is a duplicate")
        found[old] = new
    return found


def read_names(file: Path) -> dict[str, str]:
    """The names of numbers: the lines of a text file, counted from 0, lines of number,name in a
    .csv file, or the list or the object of a .json file (also name -> number, and Hugging Face's
    `id2label`)."""
    names: Any
    if file.suffix.lower() == ".json":
        names = decode_json(file, list[str] | dict[str, Any])
        names = names.get("id2label", names) if isinstance(names, dict) else names
        if isinstance(names, dict) and all(type(value) is int for value in names.values()):
            names = {str(number): name for name, number in names.items()}
    elif file.suffix.lower() == ".csv":
        names = read_map(file)
    else:
        names = [line.strip() for _, line in numbered_lines(file)]
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f'{file}: expected names of numbers, such as ["cat", "dog"]')
    for number, name in names.items():
        check_label(name.replace(",", " ").strip(), f"{file}: name of {number}")
    return names


def without_commas(labels: Iterable[str], source: object) -> dict[str, str]:
    """The labels with a comma, which a line of a data folder cannot hold, and what they become: a
    space for each. Prints it. Raises `UserError` where two labels would become one."""
    labels = set(labels)
    changed = {label: re.sub(r"\s*,\s*", " ", label).strip() for label in labels if "," in label}
    for label, new in sorted(changed.items()):
        if new in labels or list(changed.values()).count(new) > 1:
            raise UserError(
                f"{source}: {label!r}: has a comma, which a label cannot have, and {new!r} is "
                "another label: --map FILE (old,new a line) renames it"
            )
    if changed:
        label, new = min(changed.items())
        print_line(f"{source}: a comma became a space in {len(changed)}: {label!r} is {new!r}")
    return changed
