"""Labels that are probably no labels: what a column or a separator that was misread leaves."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

NULLS = {"nan", "none", "null", "n/a", "<na>"}
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
NUMBERS = re.compile(rf"{NUMBER.pattern}(\s+{NUMBER.pattern})+")
SCORE = re.compile(r"[\w)]\s*[:=(]\s*(\d?\.\d+|[01]|[01]\.0+)\)?(\s|$)|[^\W\d]\s+[01]?\.\d+$")
SEPARATOR = re.compile(r"\s(?:and|&)\s|[\W_]+")
NO_AND_YES = ({"0", "1"}, {"false", "true"}, {"no", "yes"}, {"n", "y"}, {"f", "t"})
AROUND = " .,;:!?*\"'`()[]{}<>/\\_|"  # without + - and #, as in A+ and C#
MIN_IMAGES = 6  # from which labels of one image each are suspicious
MOST = 0.7  # fraction of images with such labels alone


class Labels(NamedTuple):
    """All labels of a source, sorted, with their number of images; the largest number of labels of
    an image, and the fraction of images whose labels no other image has."""

    counts: Mapping[str, int]
    most: int
    alone: float

    @classmethod
    def of(cls, images: Sequence[Sequence[str]]) -> "Labels":
        """Those of some images."""
        counts = Counter(label for image in images for label in image)
        labelled = [image for image in images if image]
        alone = sum(all(counts[label] == 1 for label in image) for image in labelled)
        share = alone / len(labelled) if len(labelled) >= MIN_IMAGES else 0.0
        return cls(dict(sorted(counts.items())), max(map(len, images), default=0), share)

    @classmethod
    def of_marks(cls, names: Sequence[str], marks: csr_array) -> "Labels":
        """Those that `marks` (N, C), 1 where an image has one of the C `names`, gives N images."""
        counts, per_image = marks.sum(axis=0), np.diff(marks.indptr)
        alone = (per_image > 0) & (marks @ (counts > 1).astype(np.int64) == 0)
        labelled = np.count_nonzero(per_image)
        share = np.count_nonzero(alone) / labelled if labelled >= MIN_IMAGES else 0.0
        found = {names[column]: int(counts[column]) for column in np.flatnonzero(counts).tolist()}
        return cls(dict(sorted(found.items())), int(per_image.max(initial=0)), share)


class Check(NamedTuple):
    """A check: its name for --allow, what its labels are, and which labels these are, each with the
    flag that reads it otherwise."""

    name: str
    what: str
    find: Callable[[Labels], Mapping[str, str]]

    def line(self, found: Mapping[str, str]) -> str:
        """What is odd about the labels that were found, with two of them, and what to do."""
        examples, number = " and ".join(map(repr, list(found)[:2])), len(found)
        return (
            f"{self.what}: {examples} ({number} label{'s' * (number > 1)}); "
            f"{next(iter(found.values()))} of custom.py reads them otherwise, --allow {self.name} "
            "accepts them"
        )


def odd_labels(labels: Labels) -> list[tuple[Check, Mapping[str, str]]]:
    """What is odd about labels: the checks that find any, and these labels."""
    return [(check, found) for check in CHECKS if (found := check.find(labels))]


def _binary(labels: Labels) -> Mapping[str, str]:
    values = {label.lower().removesuffix(".0") for label in labels.counts}
    are_marks = values and any(values <= pair for pair in NO_AND_YES)
    flags = "--label-columns, --labels-column or --label-names"
    return dict.fromkeys(labels.counts if are_marks else (), flags)


def _numbers(labels: Labels) -> Mapping[str, str]:
    found = () if _binary(labels) else filter(NUMBER.fullmatch, labels.counts)
    return dict.fromkeys(found, "--label-names or --labels-column")


def _brackets(labels: Labels) -> Mapping[str, str]:
    odd = (one for one in labels.counts if set(one) & set('[]{}"') or {one[0], one[-1]} & set("'`"))
    return dict.fromkeys(odd, "--separator or --map")


def _nulls(labels: Labels) -> Mapping[str, str]:
    return {label: f"--none {label!r}" for label in labels.counts if label.lower() in NULLS}


def _scores(labels: Labels) -> Mapping[str, str]:
    flags = "--min-confidence", '--separator " " and --min-confidence'
    found = {label: len(SCORE.findall(label)) for label in labels.counts}
    return {label: flags[count > 1] for label, count in found.items() if count}


def _case(labels: Labels) -> Mapping[str, str]:
    return dict.fromkeys(_equal_by(labels.counts, _folded), "--lowercase or --map")


def _punctuation(labels: Labels) -> Mapping[str, str]:
    one_of_each = sorted({_folded(label): label for label in labels.counts}.values())
    alike = _equal_by(one_of_each, lambda label: _folded(label).strip(AROUND) or _folded(label))
    return dict.fromkeys(alike, "--map")


def _equal_by(labels: Iterable[str], key: Callable[[str], str]) -> list[str]:
    """The labels of which several have the same key."""
    alike = defaultdict(list)
    for label in labels:
        alike[key(label)].append(label)
    return [label for group in alike.values() if len(group) > 1 for label in group]


def _folded(label: str) -> str:
    return unicodedata.normalize("NFC", label).casefold()


def _joined(labels: Labels) -> Mapping[str, str]:
    """Labels of several numbers; labels whose parts are labels, or those of another label in
    another order; or labels of several words, if no image has two labels, and few words make up
    many labels."""
    found = {label: " " for label in labels.counts if NUMBERS.fullmatch(label)}
    same_parts: dict[tuple, dict[str, str]] = defaultdict(dict)
    for label in () if found else labels.counts:
        texts = SEPARATOR.findall(label)
        for separator in sorted({*texts, *"".join(texts)}, key=lambda text: (-len(text), text)):
            parts = [part.strip() for part in label.split(separator)]
            if len(parts) > 1 and all(part in labels.counts for part in parts):
                found.setdefault(label, separator)
            if len({*parts} - {""}) > 1:
                same_parts[separator, *sorted(parts)][label] = separator
    for group in same_parts.values():
        found |= group if len(group) > 1 else {}
    if not found and labels.most == 1:
        several = [label for label in labels.counts if len(label.split()) > 1]
        words = [word for label in labels.counts for word in label.split()]
        few = len(words) >= 2 * len(set(words))
        found = dict.fromkeys(
            several if few and 2 * len(several) >= len(labels.counts) else (), " "
        )
    return {label: f'--separator "{separator}"' for label, separator in found.items()}


def _unique(labels: Labels) -> Mapping[str, str]:
    """Captions, names of files, or whole strings of tags."""
    alone = (label for label, count in labels.counts.items() if count == 1)
    flags = "--separator, --labels-column or --min-count 2"
    return dict.fromkeys(alone if labels.alone >= MOST else (), flags)


BINARY = "labels that are nothing but 0 and 1, or no and yes"
PUNCTUATION = "labels that are equal but for punctuation around them"
UNIQUE = "labels of one image each, as captions and strings of tags are"
CHECKS = (
    Check("binary", BINARY, _binary),
    Check("brackets", "labels with brackets, braces or quotes", _brackets),
    Check("null", "labels that mean no label", _nulls),
    Check("scores", "labels with a score behind them", _scores),
    Check("joined", "labels that look like several, joined", _joined),
    Check("numbers", "labels that are only numbers", _numbers),
    Check("case", "labels that are equal but for letter case", _case),
    Check("punctuation", PUNCTUATION, _punctuation),
    Check("unique", UNIQUE, _unique),
)
