"""What every form of annotations is read into: images with labels, and their split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lib.common.errors import UserError
from lib.data.lists import UNKNOWN
from lib.data.sources.cells import split_labels

# keys and column names of an image's file and of its labels, in lower case; the first one counts
PATH_NAMES = (
    *("path", "filename", "file_name", "fname", "image", "image_name", "image index", "filepath"),
    *("file_path", "image_path", "img", "imageid", "image_id", "id"),
)
LABEL_NAMES = (
    *("labels", "label", "tags", "finding labels", "class", "classes", "genre", "genres"),
    *("categories", "category", "choices", "choice", "class_name", "label_name", "category_name"),
)
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


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read: flags of scripts/custom.py, each described there.

    `images` is the folder of the image files, if they are not where the form says.
    """

    images: Path | None = None
    path_column: str | None = None
    labels_column: str | None = None
    label_columns: Sequence[str] = ()
    not_labels: Sequence[str] = ()
    separator: str | None = None
    blank_unknown: bool = False
    group: str | None = None
    recursive: bool = False
    skip_missing: bool = False


@dataclass
class AnnotatedImage:
    """One image: its path, its labels, and its objects `{label, box [x0, y0, x1, y1], difficult}`.

    `difficult` labels of test images are marked in `ignore.npy`, `unknown` ones written `?label`.
    Images of one `group` stay in one split. `other_paths` are tried where there is no file at
    `path`; `listed` is the path that the source names. Boxes are in pixels, or in fractions of a
    side; `size` is the picture's width and height as the source says.
    """

    path: str
    labels: Iterable[str]
    difficult: Iterable[str] = ()
    unknown: Iterable[str] = ()
    objects: list[dict[str, Any]] = field(default_factory=list)
    group: str | None = None
    other_paths: Sequence[str] = ()
    listed: str = ""
    size: tuple[int, int] | None = None
    has_fractions: bool = False


class Row(NamedTuple):
    """One image, its split (train, val, test, or None if the source names none), and its position
    in the source, for errors."""

    image: AnnotatedImage
    split: str | None
    position: str


@dataclass
class Annotations:
    """The images of a source, the form in which it was read, notes on how, and the options that
    this form heeds."""

    form: str
    rows: list[Row]
    notes: list[str]
    heeded: set[str] = field(default_factory=set)


def image_paths(name: str, options: ReadOptions, folders: Sequence[Path]) -> list[str]:
    """Where the file `name` may be, the likeliest path first: below `options.images`, otherwise in
    each of `folders`. Windows' `\\` becomes `/`."""
    name = name.strip().replace("\\", "/")
    places = [options.images] if options.images else folders
    return list(dict.fromkeys((folder / name).as_posix() for folder in places))


def image_of(
    paths: Sequence[str], labels: Iterable[str], position: str, **others: Any
) -> AnnotatedImage:
    """An image whose file is at one of `paths`; `?label` is unknown.

    Raises `UserError`, naming `position`, for a label that is both known and unknown.
    """
    names = dict.fromkeys(label.strip() for label in labels if label.strip())
    unknown = [name[len(UNKNOWN) :].strip() for name in names if name.startswith(UNKNOWN)]
    known = [name for name in names if not name.startswith(UNKNOWN)]
    if both := sorted(set(known) & set(unknown)):
        raise UserError(f"{position}: label {both[0]!r} is both known and unknown")
    return AnnotatedImage(paths[0], known, unknown=unknown, other_paths=tuple(paths[1:]), **others)


def text_row(
    path: str,
    labels: str | Sequence[str],
    split: object,
    options: ReadOptions,
    folders: Sequence[Path],
    position: str,
    group: str | None = None,
) -> Row:
    """A row from text; several labels in one text are read by `split_labels`.

    Raises `UserError` for an empty path and a split that is none.
    """
    if not path.strip():
        raise UserError(f"{position}: no path")
    if isinstance(labels, str):
        labels = split_labels(labels, options.separator)
    paths = image_paths(path, options, folders)
    return Row(
        image_of(paths, labels, position, group=group), split_name(split, position), position
    )


def split_name(split: object, position: str) -> str | None:
    """The split that a text names, None for an empty one; raises `UserError` for another text."""
    if split is None or not str(split).strip():
        return None
    name = SPLIT_NAMES.get(str(split).strip().lower())
    if name is None:
        raise UserError(
            f"{position}: split {split!r}: expected train, val or test; correct it, or rename the "
            "column, so that it is not read"
        )
    return name


def without_repeats(rows: Sequence[Row], notes: list[str]) -> list[Row]:
    """Rows without those that say the same of the same image as an earlier one."""
    kept: dict[tuple[object, ...], Row] = {}
    for row in rows:
        image = row.image
        kept.setdefault((image.path, row.split, *image.labels, "?", *image.unknown), row)
    if len(kept) < len(rows):
        notes.append(f"left out: {len(rows) - len(kept)} rows that repeat another one")
    return list(kept.values())


def note_unused(names: Iterable[str], rows: Iterable[Row], notes: list[str]) -> None:
    """Note the labels that the source names, and no image of it has."""
    images = [row.image for row in rows]
    used = {label for one in images for label in (*one.labels, *one.difficult, *one.unknown)}
    if unused := [name for name in dict.fromkeys(names) if name not in used]:
        more = f", and {len(unused) - 10} more" if len(unused) > 10 else ""
        notes.append(f"labels that no image of it has: {', '.join(unused[:10])}{more}")


def joined(rows: Iterable[Row]) -> list[Row]:
    """Rows of the same image as one, with the labels and objects of all.

    Raises `UserError` where they contradict each other.
    """
    first: dict[str, Row] = {}
    for row in rows:
        earlier = first.setdefault(row.image.path, row)
        if earlier is row:
            continue
        if earlier.split != row.split:
            raise UserError(
                f"{row.position}: {row.image.path} is in {row.split or 'no split'} here, and in "
                f"{earlier.split or 'no split'} at {earlier.position}"
            )
        image = earlier.image
        image.labels = list(dict.fromkeys([*image.labels, *row.image.labels]))
        image.unknown = list(dict.fromkeys([*image.unknown, *row.image.unknown]))
        image.objects = [*image.objects, *row.image.objects]
        if both := sorted(set(image.labels) & set(image.unknown)):
            raise UserError(f"{row.position}: label {both[0]!r} is both known and unknown")
    return list(first.values())
