"""Changes of label names between the annotations and the data folder, by the flags of custom.py."""

import re
import unicodedata
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import decode_json, numbered_lines
from lib.data.lists import check_label
from lib.data.sources.annotations import AnnotatedImage, shortened
from lib.data.sources.tables.table import csv_rows

INVISIBLE = dict.fromkeys(map(ord, "\u200b\ufeff"))
HEADERS = "attribute_id,attribute_name id,name code,name labelname,displayname old,new".split()


def change_labels(images: Sequence[AnnotatedImage], arguments: Namespace) -> None:
    """Change the labels of all images, by the flags of scripts/custom.py in the order below; prints
    what was dropped.

    Raises `UserError` for a number or code without a name.
    """
    _rename(images, clean)
    if file := arguments.class_descriptions:
        _name_codes(images, file, read_map(file), "/.*")
    if file := arguments.label_names:
        _name_codes(images, file, _read_names(file), r"-?\d+(\.0)?")
    if arguments.none:
        words = {word.strip().casefold() for word in arguments.none}
        _drop(images, lambda label: label.casefold() in words, "--none")
    if arguments.lowercase:
        _rename(images, str.lower)
    if arguments.map:
        mapped, found = read_map(arguments.map), _counts(images)
        if unused := [old for old in mapped if old not in found]:
            print_line(f"{arguments.map}: {len(unused)} of its labels are nowhere: {unused[0]!r}")
        _drop(images, lambda label: mapped.get(label) == "", "--map")
        _rename(images, lambda label: mapped.get(label, label))
    counts = _counts(images)
    if unknown := [label for label in arguments.keep if label not in counts]:
        raise UserError(
            f"--keep {unknown[0]}: no image has this label; there are {_listed(counts)}"
        )
    if arguments.keep:
        _drop(images, lambda label: label not in arguments.keep, "--keep")
    if arguments.min_count:
        _drop(images, lambda label: counts[label] < arguments.min_count, "--min-count")


def clean(label: str) -> str:
    """A label in one Unicode form, with single spaces, without invisible characters."""
    text = unicodedata.normalize("NFC", label).translate(INVISIBLE)
    return re.sub("[ \u00a0\u2009]+", " ", text).strip()


def read_map(file: Path) -> dict[str, str]:
    """Read lines of `old,new`; a header of `HEADERS` is passed over. Raises `UserError` for others,
    and for an old name that comes twice."""
    has_commas = any("," in line for _, line in numbered_lines(file))
    found: dict[str, str] = {}
    for line, cells in csv_rows(file, "," if has_commas else ";"):  # of a spreadsheet
        position = f"{file}:{line}"
        if not cells or (not found and ",".join(cells).lower() in HEADERS):
            continue
        if len(cells) != 2:
            raise UserError(f"{position}: expected old,new; found {len(cells)} fields")
        old, new = map(clean, cells)
        if new:
            check_label(new, position)
        if old in found:
            raise UserError(f"{position}: {old!r} is a duplicate")
        found[old] = new
    return found


def _name_codes(
    images: Sequence[AnnotatedImage], file: Path, names: Mapping[str, str], pattern: str
) -> None:
    """Give the labels that match `pattern` the names of `file`; raises `UserError` for one that has
    none there."""
    codes = {label for label in _counts(images) if re.fullmatch(pattern, label)}
    if not codes:
        print_line(f"{file}: names no label: none of them is a number or code")
    for code in sorted(codes):
        if code.removesuffix(".0") not in names:
            raise UserError(f"{file}: has no name for the label {code!r}")
    _rename(images, lambda label: names.get(label.removesuffix(".0"), label))


def _read_names(file: Path) -> dict[str, str]:
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
        check_label(name, f"{file}: name of {number}")
    return names


def _rename(images: Iterable[AnnotatedImage], rename: Callable[[str], str]) -> None:
    """Change the names of all labels. A label that becomes both known and unknown is known."""
    for image in images:
        image.labels = list(dict.fromkeys(map(rename, image.labels)))
        for name in ("difficult", "unknown"):
            changed = dict.fromkeys(map(rename, getattr(image, name)))
            setattr(image, name, [label for label in changed if label not in image.labels])
        for found in image.objects:
            found["label"] = rename(found["label"])


def _drop(images: Iterable[AnnotatedImage], drops: Callable[[str], bool], flag: str) -> None:
    """Drop labels, and print the number of images of each."""
    dropped = {label: count for label, count in _counts(images).items() if drops(label)}
    for image in images:
        for name in ("labels", "difficult", "unknown"):
            setattr(image, name, [label for label in getattr(image, name) if not drops(label)])
        image.objects = [one for one in image.objects if not drops(one["label"])]
    if dropped or flag != "--map":
        print_line(f"labels left out ({flag}): {_listed(dropped) or 'none'}")


def _counts(images: Iterable[AnnotatedImage]) -> Counter[str]:
    """Images that have each label; 0 for one that is unknown where it is named."""
    found: Counter[str] = Counter()
    for image in images:
        found.update((*image.labels, *image.difficult))
        found.update(dict.fromkeys(image.unknown, 0))
    return found


def _listed(counts: Mapping[str, int]) -> str:
    """The most frequent labels with their numbers of images."""
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return shortened([f"{label} ({count})" for label, count in first], 8)
