"""Lists of labels, of which those of zeros and ones of one length are a column a label."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.sources.annotations import AnnotatedImage, ReadOptions
from lib.data.sources.cells import are_signs, mark
from lib.data.sources.names import read_names

Labelled = Sequence[tuple[AnnotatedImage, list[str]]]
VALUES = {"0", "1", "-1"}


def add_label_lists(
    rows: Labelled, file: Path, options: ReadOptions, names: Sequence[str] = ()
) -> None:
    """Give each image the labels of its list. Those of lists of zeros and ones are `names`, or
    numbers, which --label-names names: the first number there is that of the first column.

    Raises `UserError` for such lists without names, or with more or fewer of them.
    """
    lists = [labels for _, labels in rows if labels]
    if not _are_columns(lists, options.separator is None):
        for image, labels in rows:
            image.add_names(labels)
        return
    length, source = len(lists[0]), options.label_names
    if not names and source is None:
        raise UserError(
            f"{file}: lists of {length} zeros and ones, a column a label: --label-names FILE has "
            "the names of the columns, a line each"
        )
    if not names and source:
        numbers = read_names(source)
        names = sorted(numbers, key=lambda key: int(key) if key.isdecimal() else -1)
    if len(names) != length:
        raise UserError(
            f"{source or file}: has {len(names)} names, but {file} has lists of {length} zeros and "
            "ones"
        )
    print_line(
        f"{file}: lists of {length} zeros and ones: a column a label, named by {source or file}"
    )
    signs = are_signs(itertools.chain(*lists))
    for image, labels in rows:
        for name, text in zip(names, labels, strict=False):
            if mark(text) is not False and not (signs and text.startswith("-")):
                (image.labels if mark(text) else image.unknown).append(name)


def _are_columns(lists: Sequence[Sequence[str]], may_be_two: bool) -> bool:
    """Whether lists without empty ones are columns, and not numbers of labels: all are as long, and
    one repeats a value, as none of numbers does; or, if `may_be_two`, both 0 1 and 1 0 occur."""
    if not lists or len(lists[0]) < 2 or any(len(one) != len(lists[0]) for one in lists):
        return False
    values = [[text.removesuffix(".0") for text in one] for one in lists]
    if {*itertools.chain(*values)} - VALUES:
        return False
    repeats = any(len({*one}) < len(one) for one in values)
    return repeats or (may_be_two and len({*map(tuple, values)}) > 1)
