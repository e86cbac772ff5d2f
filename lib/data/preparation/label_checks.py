"""Labels that are probably no labels: what a column or a separator that was misread leaves."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

NULLS = {"nan", "none", "null", "n/a", "<na>"}
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
NUMBERS = re.compile(rf"{NUMBER.pattern}(\s+{NUMBER.pattern})+")
NO_AND_YES = ({"0", "1"}, {"false", "true"}, {"no", "yes"}, {"n", "y"}, {"f", "t"})
AROUND = " .,;:!?*\"'`()[]{}<>/\\_|"  # without + - and #, as in A+ and C#


class Check(NamedTuple):
    """A check: its name for --allow, what its labels are, which of all labels these are, given the
    largest number of labels of an image, and the flags that read them otherwise."""

    name: str
    what: str
    find: Callable[[Sequence[str], int], Sequence[str]]
    flags: str

    def line(self, found: Sequence[str]) -> str:
        """What is odd about the labels that were found, with two of them, and what to do."""
        examples, number = " and ".join(map(repr, found[:2])), len(found)
        return (
            f"{self.what}: {examples} ({number} label{'s' * (number > 1)}); {self.flags} of "
            f"custom.py reads them otherwise, --allow {self.name} accepts them"
        )


def odd_labels(labels: Iterable[str], most: int) -> list[tuple[Check, Sequence[str]]]:
    """What is odd about `labels`, of which an image has at most `most`: the checks that find any,
    and these labels."""
    labels = sorted(labels)
    return [(check, found) for check in CHECKS if (found := check.find(labels, most))]


def _binary(labels: Sequence[str], most: int) -> Sequence[str]:
    values = {label.lower().removesuffix(".0") for label in labels}
    return labels if values and any(values <= pair for pair in NO_AND_YES) else ()


def _numbers(labels: Sequence[str], most: int) -> Sequence[str]:
    return () if _binary(labels, most) else [one for one in labels if NUMBER.fullmatch(one)]


def _brackets(labels: Sequence[str], most: int) -> Sequence[str]:
    return [one for one in labels if set(one) & set('[]{}"') or {one[0], one[-1]} & set("'`")]


def _nulls(labels: Sequence[str], most: int) -> Sequence[str]:
    return [label for label in labels if label.lower() in NULLS]


def _case(labels: Sequence[str], most: int) -> Sequence[str]:
    return _equal_by(labels, _folded)


def _punctuation(labels: Sequence[str], most: int) -> Sequence[str]:
    one_of_each = sorted({_folded(label): label for label in labels}.values())
    return _equal_by(one_of_each, lambda label: _folded(label).strip(AROUND) or _folded(label))


def _equal_by(labels: Sequence[str], key: Callable[[str], str]) -> list[str]:
    """The labels of which several have the same key."""
    alike = defaultdict(list)
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
    words = [word for label in labels for word in label.split()]
    few = len(words) >= 2 * len(set(words))
    return several if most == 1 and few and 2 * len(several) >= len(labels) else ()


BINARY = "labels that are nothing but 0 and 1, or no and yes"
PUNCTUATION = "labels that are equal but for punctuation around them"
CHECKS = (
    Check("binary", BINARY, _binary, "--label-columns, --labels-column or --label-names"),
    Check("brackets", "labels with brackets, braces or quotes", _brackets, "--separator or --map"),
    Check("null", "labels that mean no label", _nulls, "--none"),
    Check("joined", "labels that look like several, joined by spaces", _joined, '--separator " "'),
    Check("numbers", "labels that are only numbers", _numbers, "--label-names or --labels-column"),
    Check("case", "labels that are equal but for letter case", _case, "--lowercase or --map"),
    Check("punctuation", PUNCTUATION, _punctuation, "--map"),
)
