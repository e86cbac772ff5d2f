"""Changes of label names between the annotations and the data folder, by the flags of custom.py."""

import re
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage, shortened
from lib.data.sources.cells import clean, parts_of
from lib.data.sources.names import read_map, read_names, without_commas

SCORED = re.compile(r"([^:=(]*[^:=(\s])\s*[:=(]\s*(\d*\.?\d+)\)?")  # dog:0.9, dog (0.9)


def change_labels(images: Sequence[AnnotatedImage], arguments: Namespace) -> None:
    """Change the labels of all images, by the flags of scripts/custom.py in the order below; prints
    what was dropped.

    Raises `UserError` for a number or code without a name.
    """
    if arguments.separator:  # a cell is split already, a list or a category may not be
        _split(images, arguments.separator)
    _rename(images, clean)
    if arguments.min_confidence is not None:
        _drop_unsure(images, arguments.min_confidence)
    if file := arguments.class_descriptions:
        _name_codes(images, file, read_map(file), "/.*")
    if file := arguments.label_names:
        _name_codes(images, file, read_names(file), r"-?\d+(\.0)?")
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
    changed = without_commas(_counts(images), "labels")
    _rename(images, lambda label: changed.get(label, label))
    counts = _counts(images)
    if unknown := [label for label in arguments.keep if label not in counts]:
        raise UserError(
            f"--keep {unknown[0]}: no image has this label; there are {_listed(counts)}"
        )
    if arguments.keep:
        _drop(images, lambda label: label not in arguments.keep, "--keep")
    if arguments.min_count:
        _drop(images, lambda label: counts[label] < arguments.min_count, "--min-count")


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


def _split(images: Iterable[AnnotatedImage], separator: str) -> None:
    """Split labels at a separator; each part of an object's label has its box."""
    parts = {label: [*filter(None, parts_of(label, separator))] for label in _names(images)}
    if all(found == [label] for label, found in parts.items()):
        return
    for image in images:
        for name in ("labels", "difficult", "unknown"):
            found = (part for label in getattr(image, name) for part in parts[label])
            setattr(image, name, list(dict.fromkeys(found)))
        image.objects = [
            {**one, "label": part} for one in image.objects for part in parts[one["label"]]
        ]


def _drop_unsure(images: Sequence[AnnotatedImage], least: float) -> None:
    """Read labels such as `dog:0.9`: drop those of less than `least`, and the others' scores."""
    scored = {label: match for label in _counts(images) if (match := SCORED.fullmatch(label))}
    if unsure := {label for label, match in scored.items() if float(match[2]) < least}:
        _drop(images, unsure.__contains__, f"--min-confidence {least:g}")
    _rename(images, lambda label: scored[label][1] if label in scored else label)


def _rename(images: Iterable[AnnotatedImage], rename: Callable[[str], str]) -> None:
    """Change the names of all labels. A label that becomes both known and unknown is known."""
    new = {label: rename(label) for label in _names(images)}
    if all(old == label for old, label in new.items()):
        return
    for image in images:
        image.labels = list(dict.fromkeys(new[label] for label in image.labels))
        for name in ("difficult", "unknown"):
            changed = dict.fromkeys(new[label] for label in getattr(image, name))
            setattr(image, name, [label for label in changed if label not in image.labels])
        for found in image.objects:
            found["label"] = new[found["label"]]


def _names(images: Iterable[AnnotatedImage]) -> set[str]:
    """All labels, and those of objects."""
    found = {label for image in images for label in image.named}
    return found | {one["label"] for image in images for one in image.objects}


def _drop(images: Iterable[AnnotatedImage], drops: Callable[[str], bool], flag: str) -> None:
    """Drop labels, and print the number of images of each."""
    dropped = {label: count for label, count in _counts(images).items() if drops(label)}
    for image in images if dropped else ():
        for name in ("labels", "difficult", "unknown"):
            setattr(image, name, [label for label in getattr(image, name) if label not in dropped])
        image.objects = [one for one in image.objects if one["label"] not in dropped]
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
