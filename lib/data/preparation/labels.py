"""Changes of label names between the annotations and the data folder, by the flags of custom.py."""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.common.readers import decode_json, numbered_lines
from lib.data.lists import check_label
from lib.data.sources.annotations import AnnotatedImage

NUMBER = re.compile(r"-?\d+(\.0)?")
INVISIBLE = dict.fromkeys(map(ord, "\u200b\ufeff"))
HEADERS = {
    ("attribute_id", "attribute_name"),
    ("id", "name"),
    ("code", "name"),
    ("labelname", "displayname"),
    ("old", "new"),
}


@dataclass(frozen=True)
class LabelChanges:
    """What happens to labels, in this order; see `python scripts/custom.py --help`."""

    class_descriptions: Path | None = None
    label_names: Path | None = None
    none: Sequence[str] = ()
    lowercase: bool = False
    map: Path | None = None
    keep: Sequence[str] = ()
    min_count: int = 0


def change_labels(samples: Sequence[AnnotatedImage], changes: LabelChanges) -> list[str]:
    """Change the labels of all samples; gives notes on what was dropped.

    Raises `UserError` for a number or code without a name.
    """
    notes: list[str] = []
    _rename(samples, clean)
    if changes.class_descriptions:
        names = read_map(changes.class_descriptions)
        missing = [one for one in _counts(samples) if one.startswith("/") and one not in names]
        if missing:
            raise UserError(f"{changes.class_descriptions}: lacks the code {missing[0]!r}")
        if not any(label in names for label in _counts(samples)):
            notes.append(f"--class-descriptions {changes.class_descriptions}: no label is in it")
        _rename(samples, lambda label: names.get(label, label))
    if changes.label_names:
        if not any(NUMBER.fullmatch(label) for label in _counts(samples)):
            notes.append(f"--label-names {changes.label_names}: no label is a number")
        _rename(samples, _numbered(changes.label_names))
    if changes.none:
        words = {word.strip().casefold() for word in changes.none}
        counts = _drop(samples, lambda label: label.casefold() in words)
        notes.append(f"no label (--none): {_listed(counts) or 'never found'}")
    if changes.lowercase:
        _rename(samples, str.lower)
    if changes.map:
        mapped = read_map(changes.map)
        if unused := [old for old in mapped if old not in _counts(samples)]:
            notes.append(f"{changes.map}: {len(unused)} of its labels are nowhere: {unused[0]!r}")
        dropped = _drop(samples, lambda label: mapped.get(label) == "")
        _rename(samples, lambda label: mapped.get(label, label))
        notes += [f"labels left out (--map): {_listed(dropped)}"] if dropped else []
    if changes.keep:
        counts = _counts(samples)
        if unknown := [label for label in changes.keep if label not in counts]:
            raise UserError(
                f"--keep {unknown[0]}: no image has this label; there are {_listed(counts)}"
            )
        dropped = _drop(samples, lambda label: label not in changes.keep)
        notes += [f"labels left out (--keep): {_listed(dropped)}"] if dropped else []
    if changes.min_count:
        counts = _counts(samples)
        dropped = _drop(samples, lambda label: counts[label] < changes.min_count)
        notes += [f"labels left out (--min-count): {_listed(dropped)}"] if dropped else []
    return notes


def clean(label: str) -> str:
    """A label in one Unicode form, with single spaces, without invisible characters."""
    text = unicodedata.normalize("NFC", label).translate(INVISIBLE)
    return re.sub("[ \u00a0\u2009]+", " ", text).strip()


def read_map(file: Path) -> dict[str, str]:
    """Read lines of `old,new`; a header of `HEADERS` is passed over. Raises `UserError` for others,
    and for an old name that comes twice."""
    lines = [line + "\n" for _, line in numbered_lines(file)]
    delimiter = "," if any("," in line for line in lines) else ";"  # of a spreadsheet
    reader = csv.reader(lines, strict=True, skipinitialspace=True, delimiter=delimiter)
    found: dict[str, str] = {}
    try:
        for cells in reader:
            position = f"{file}:{reader.line_num}"
            if not cells or (not found and tuple(one.strip().lower() for one in cells) in HEADERS):
                continue
            if len(cells) != 2:
                raise UserError(f"{position}: expected old,new; found {len(cells)} fields")
            old, new = (clean(cell) for cell in cells)
            if new:
                check_label(new, position)
            if old in found:
                raise UserError(f"{position}: {old!r} is a duplicate")
            found[old] = new
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: not CSV: {error}") from error
    return found


def _numbered(file: Path) -> Callable[[str], str]:
    """From the numbers of labels to their names: the lines of a text file, counted from 0, lines of
    number,name in a .csv file, or the list or the object of a .json file (also name -> number, and
    Hugging Face's `id2label`)."""
    names: Mapping[str, str]
    if file.suffix.lower() == ".json":
        content = decode_json(file, list[str] | dict[str, Any])
        content = content.get("id2label", content) if isinstance(content, dict) else content
        if isinstance(content, dict) and all(type(value) is int for value in content.values()):
            content = {str(number): name for name, number in content.items()}
        names = content if isinstance(content, dict) else _by_number(content)
        if not all(isinstance(name, str) for name in names.values()):
            raise UserError(f'{file}: expected names of numbers, such as ["cat", "dog"]')
    elif file.suffix.lower() == ".csv":
        names = read_map(file)
    else:
        names = _by_number([line.strip() for _, line in numbered_lines(file)])
    for number, name in names.items():
        check_label(name, f"{file}: name of {number}")

    def name_of(label: str) -> str:
        number = label.removesuffix(".0")
        if number in names:
            return names[number]
        if number.lstrip("-").isdigit():
            raise UserError(f"{file}: has no name for the label {label}, only {len(names)} names")
        return label

    return name_of


def _by_number(names: Sequence[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _rename(samples: Iterable[AnnotatedImage], rename: Callable[[str], str]) -> None:
    """Change the names of all labels. A label that becomes both known and unknown is known."""
    for sample in samples:
        sample.labels = list(dict.fromkeys(map(rename, sample.labels)))
        for name in ("difficult", "unknown"):
            changed = dict.fromkeys(map(rename, getattr(sample, name)))
            setattr(sample, name, [label for label in changed if label not in sample.labels])
        sample.objects = [{**one, "label": rename(one["label"])} for one in sample.objects]


def _drop(samples: Iterable[AnnotatedImage], drops: Callable[[str], bool]) -> Counter[str]:
    """Drop labels; gives the number of images of each."""
    dropped = Counter({one: count for one, count in _counts(samples).items() if drops(one)})
    for sample in samples:
        for name in ("labels", "difficult", "unknown"):
            present = list(getattr(sample, name))
            setattr(sample, name, [label for label in present if not drops(label)])
        sample.objects = [one for one in sample.objects if not drops(one["label"])]
    return dropped


def _counts(samples: Iterable[AnnotatedImage]) -> Counter[str]:
    """Images that have each label; 0 for one that is unknown where it is named."""
    found: Counter[str] = Counter()
    for sample in samples:
        found.update((*sample.labels, *sample.difficult))
        found.update(dict.fromkeys(sample.unknown, 0))
    return found


def _listed(counts: Mapping[str, int]) -> str:
    """The most frequent labels with their numbers of images."""
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:8]
    more = f", and {len(counts) - 8} more" if len(counts) > 8 else ""
    return ", ".join(f"{label} ({count})" for label, count in first) + more
