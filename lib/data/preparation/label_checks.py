"""Labels that are probably no labels: what a column or a separator that was misread leaves."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

NULLS = {"nan", "none", "null", "n/a", "<na>"}
NUMBERS = re.compile(r"[+-]?\d+(\.\d+)?(\s+[+-]?\d+(\.\d+)?)+")
NO_AND_YES = ({"0", "1"}, {"false", "true"}, {"no", "yes"}, {"n", "y"}, {"f", "t"})
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
AROUND = " .,;:!?*\"'`()[]{}<>/\\_|"  # without + - and #, as in A+ and C#


class Finding(NamedTuple):
    """What is odd about some labels: its name for --allow, the labels, and what reads them."""

    name: str
    what: str
    labels: Sequence[str]
    remedy: str

    @property
    def line(self) -> str:
        """One line with two examples."""
        examples, number = " and ".join(map(repr, self.labels[:2])), len(self.labels)
        return f"{self.what}: {examples} ({number} label{'s' * (number > 1)})"


def odd_labels(rows: Iterable[Iterable[str]]) -> list[Finding]:
    """What is odd about the labels of some images, one finding for each check of `CHECKS`."""
    images = [list(row) for row in rows]
    labels = sorted({label for image in images for label in image})
    most = max(map(len, images), default=0)
    return [
        Finding(check.name, check.what, found, check.remedy)
        for check in CHECKS
        if (found := check.find(labels, most))
    ]


class Check(NamedTuple):
    """A check: the odd ones of all labels, given the largest number of labels of an image."""

    name: str
    what: str
    find: Callable[[Sequence[str], int], Sequence[str]]
    remedy: str


def _binary(labels: Sequence[str], most: int) -> Sequence[str]:
    values = {re.sub(r"\.0$", "", label.lower()) for label in labels}
    return labels if values and any(values <= pair for pair in NO_AND_YES) else ()


def _numbers(labels: Sequence[str], most: int) -> Sequence[str]:
    return () if _binary(labels, most) else [one for one in labels if NUMBER.fullmatch(one)]


def _brackets(labels: Sequence[str], most: int) -> Sequence[str]:
    return [
        label
        for label in labels
        if set(label) & set('[]{}"') or label[0] in "'`" or label[-1] in "'`"
    ]


def _nulls(labels: Sequence[str], most: int) -> Sequence[str]:
    return [label for label in labels if label.lower() in NULLS]


def _case(labels: Sequence[str], most: int) -> Sequence[str]:
    return _equal_by(labels, _folded)


def _punctuation(labels: Sequence[str], most: int) -> Sequence[str]:
    return _equal_by(
        sorted({_folded(label): label for label in labels}.values()),
        lambda label: _folded(label).strip(AROUND) or _folded(label),
    )


def _equal_by(labels: Sequence[str], key: Callable[[str], str]) -> list[str]:
    """The labels of which several have the same key."""
    alike: Mapping[str, list[str]] = defaultdict(list)
    for label in labels:
        alike[key(label)].append(label)
    return [label for group in alike.values() if len(group) > 1 for label in group]


def _folded(label: str) -> str:
    return unicodedata.normalize("NFC", label).casefold()


def _joined(labels: Sequence[str], most: int) -> Sequence[str]:
    """Labels of several numbers; or of several words, if no image has two labels, and few words
    make up many labels."""
    if numbers := [label for label in labels if NUMBERS.fullmatch(label)]:
        return numbers
    several = [label for label in labels if len(label.split()) > 1]
    words = {word for label in labels for word in label.split()}
    uses = sum(len(label.split()) for label in labels)
    few = uses >= 2 * len(words)
    return several if most == 1 and few and 2 * len(several) >= len(labels) else ()


CHECKS = (
    Check(
        "binary",
        "a column of labels with nothing but 0 and 1, or no and yes",
        _binary,
        "--label-columns A,B reads a column a label, --labels-column names another column, "
        "--label-names FILE gives names to 0 and 1",
    ),
    Check(
        "brackets",
        "labels with brackets, braces or quotes",
        _brackets,
        "--separator says what stands between the labels of a cell, --map FILE (old,new a line) "
        "renames them",
    ),
    Check("null", "labels that mean no label", _nulls, "--none WORD reads such a word as no label"),
    Check(
        "joined",
        "labels that look like several, joined by spaces",
        _joined,
        '--separator " " reads them as several',
    ),
    Check(
        "numbers",
        "labels that are only numbers",
        _numbers,
        "--label-names FILE gives names to them, --labels-column names another column",
    ),
    Check(
        "case",
        "labels that are equal but for letter case",
        _case,
        "--lowercase makes them one label, --map FILE (old,new a line) renames them",
    ),
    Check(
        "punctuation",
        "labels that are equal but for punctuation around them",
        _punctuation,
        "--map FILE (old,new a line) renames them",
    ),
)
ALLOWED = tuple(check.name for check in CHECKS)
