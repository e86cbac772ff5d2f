"""Splits that a source gives, by a column such as `split`, or by flags such as `is_train`."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lib.common.errors import UserError
from lib.data.sources.annotations import SPLIT_NAMES, AnnotatedImage, split_name
from lib.data.sources.cells import MARKS, Mark

# names of columns without the signs between their words. They give splits: in any case; if a value
# is a split, or if they are numbers, which are refused; if a value is a split
ALWAYS = ("split", "subset", "set", "datasplit", "splitname")
PERHAPS = ("partition", "phase", "usage", "stage", "purpose")
OFTEN = ("fold", "dataset", "mode", "part", "type", "kind")
FLAGS = {
    **dict.fromkeys(("istrain", "istraining", "train", "training"), "train"),
    **dict.fromkeys(("istest", "istesting", "test", "testing"), "test"),
    **dict.fromkeys(("isvalid", "isval", "isvalidation", "valid", "val", "validation"), "val"),
}
# beside one of them, `train` is a vehicle
VEHICLES = {"bus", "car", "boat", "truck", "bicycle", "airplane", "aeroplane", "motorcycle"}
Rows = Sequence[tuple[AnnotatedImage, Mapping[str, Any]]]


def set_splits(rows: Rows, keys: Iterable[str]) -> list[str]:
    """Set the split of each image by its record, and give those of `keys` that were read.

    Raises `UserError` for a value that is no split, and for a record of several splits.
    """
    found = {key: [_text(record.get(key)) for _, record in rows] for key in _candidates(rows, keys)}
    named = [key for key in found if _names_splits(bare(key), set(found[key]) - {""})]
    names = {bare(key) for key in keys}
    flags = {key: FLAGS[bare(key)] for key in found if _is_flag(bare(key), found[key], names)}
    for row, (image, _) in enumerate(rows):
        if named:
            image.split = split_name(found[named[0]][row], image.position)
        elif flags:
            marks = {key: MARKS.get(found[key][row].removesuffix(".0")) for key in flags}
            image.split = _of_flags(marks, flags, image.position)
    return [*named, *flags]


def _candidates(rows: Rows, keys: Iterable[str]) -> list[str]:
    """The keys with a name of splits, and those whose values are nothing else."""
    known = {*ALWAYS, *PERHAPS, *OFTEN, *FLAGS}
    values = SPLIT_NAMES.keys() | {""}
    return [
        key
        for key in keys
        if bare(key) in known or all(_text(record.get(key)) in values for _, record in rows)
    ]


def bare(key: str) -> str:
    """A key in lower case without what is between its words: "istrain" for "Is train"."""
    return re.sub(r"[\W_]+", "", key.lower())


def _text(value: Any) -> str:
    return str(value).strip().lower() if isinstance(value, (str, int, float)) else ""


def _names_splits(name: str, values: Collection[str]) -> bool:
    """Whether a column gives splits: by its name, or as it has several of them and nothing else."""
    splits = SPLIT_NAMES.keys() & values
    if name in ALWAYS or (name in (*PERHAPS, *OFTEN) and splits):
        return True
    if name in PERHAPS:
        return bool(values) and all(value.isdecimal() for value in values)
    return len(splits) > 1 and splits == set(values)


def _is_flag(name: str, values: Sequence[str], names: Collection[str]) -> bool:
    """Whether a column says yes or no to a split; `names` are those of all columns."""
    if name not in FLAGS or (name == "train" and VEHICLES & {*names}):
        return False
    return (
        name == "valid"
        or name.startswith("is")
        or all(one.removesuffix(".0") in MARKS for one in values)
    )


def _of_flags(marks: Mapping[str, Mark], flags: Mapping[str, str], position: str) -> str | None:
    """The split to which flags say yes or, if all say no, the one of which there is no flag."""
    if wrong := [key for key, value in marks.items() if value is None]:
        raise UserError(f"{position}: {wrong[0]}: expected true or false")
    found = {flags[key] for key, value in marks.items() if value is True}
    if len(found) > 1:
        raise UserError(f"{position}: is in {' and '.join(sorted(found))}")
    if found or "" in marks.values():
        return next(iter(found), None)
    left = [split for split in ("train", "test", "val") if split not in flags.values()]
    if not left:
        raise UserError(f"{position}: is in none of {', '.join(flags)}")
    return left[0]
