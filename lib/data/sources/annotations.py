"""What every form of annotations is read into: images with labels, and their split."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lib.common.errors import UserError
from lib.data.lists import UNKNOWN, check_label

LABEL_SEPARATORS = ",;|"
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass
class AnnotatedImage:
    """One image: its path, its labels, and its objects `{label, box [x0, y0, x1, y1], difficult}`.

    `difficult` labels of test images are marked in `ignore.npy`, `unknown` ones written `?label`.
    """

    path: str
    labels: Iterable[str]
    difficult: Iterable[str] = ()
    unknown: Iterable[str] = ()
    objects: list[dict[str, Any]] = field(default_factory=list)


class Row(NamedTuple):
    """One image, its split (train, val, test, or None if the source names none), and its position
    in the source, for errors."""

    image: AnnotatedImage
    split: str | None
    position: str


def text_row(
    path: str, labels: str | list[str], split: object, images: Path | None, position: str
) -> Row:
    """A row from text; `?label` is unknown, and labels in one text are separated by `,`, `;` or
    `|`. Raises `UserError` for labels and splits that are not valid."""
    if isinstance(labels, str):
        for separator in LABEL_SEPARATORS[1:]:
            labels = labels.replace(separator, LABEL_SEPARATORS[0])
        labels = labels.split(LABEL_SEPARATORS[0])
    names = dict.fromkeys(label.strip() for label in labels if label.strip())
    unknown = [name[1:] for name in names if name.startswith(UNKNOWN)]
    known = [name for name in names if not name.startswith(UNKNOWN)]
    for label in (*known, *unknown):
        check_label(label, position)
    if both := set(known) & set(unknown):
        raise UserError(f"{position}: label {both.pop()!r} is both known and unknown")
    if not path.strip():
        raise UserError(f"{position}: no path")
    split_name = None
    if split not in (None, ""):
        split_name = SPLIT_NAMES.get(str(split).strip().lower())
        if split_name is None:
            raise UserError(f"{position}: split {split!r}: expected train, val or test")
    file = images / path.strip() if images else Path(path.strip())
    return Row(AnnotatedImage(file.as_posix(), known, unknown=unknown), split_name, position)
