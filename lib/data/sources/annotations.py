"""What every form of annotations is read into: images with labels, and their split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.lists import UNKNOWN

# keys and column names of an image's file and of its labels, in lower case; the first one counts
PATH_NAMES = (
    *("path", "filename", "file_name", "fname", "image", "image_name", "image index", "filepath"),
    *("file_path", "image_path", "img_path", "img", "imageid", "image_id", "id"),
)
LABEL_NAMES = (
    *("labels", "label", "tags", "finding labels", "class", "classes", "genre", "genres"),
    *("categories", "category", "choices", "choice", "class_name", "label_name", "category_name"),
)
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst", "privatetest"), "test"),  # FER2013's
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "publictest"), "val"),
}
SURE = 0.5  # confidence from which a label counts, where there are fractions


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
    blank: str = "no"
    group: str | None = None
    recursive: bool = False
    skip_missing: bool = False
    min_confidence: float | None = None
    label_names: Path | None = None
    labels_from: str | None = None
    allow: Sequence[str] = ()


@dataclass(slots=True)
class AnnotatedImage:
    """One image: its path, its labels, and its objects `{label, box [x0, y0, x1, y1], difficult}`.

    `difficult` labels of test images are marked in `ignore.npy`, `unknown` ones written `?label`.
    Images of one `group` stay in one split. `other_paths` are tried where there is no file at
    `path`; `listed` is the path that the source names. Boxes are in pixels, or in fractions of a
    side; `size` is the picture's width and height as the source says. `split` is train, val, test,
    or None where the source names none; `position` is the place in the source, for errors.
    """

    path: str
    labels: list[str] = field(default_factory=list)
    difficult: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    group: str | None = None
    other_paths: Sequence[str] = ()
    listed: str = ""
    size: tuple[int, int] | None = None
    has_fractions: bool = False
    split: str | None = None
    position: str = ""

    @property
    def named(self) -> list[str]:
        """All labels that it has, or may have."""
        return [*self.labels, *self.difficult, *self.unknown]

    def add(self, label: str, box: list[float] | None = None, is_difficult: bool = False) -> None:
        """Add an object; one without a box gives its label only. A label is difficult if all of its
        objects are."""
        if box:
            self.objects.append({"label": label, "box": box, "difficult": is_difficult})
        if label in self.labels or (is_difficult and label in self.difficult):
            return
        (self.difficult if is_difficult else self.labels).append(label)
        if not is_difficult and label in self.difficult:
            self.difficult.remove(label)

    def add_names(self, names: Iterable[str]) -> None:
        """Add labels, of which `?label` is unknown.

        Raises `UserError` for a label that is both known and unknown.
        """
        for name in names:
            label = name.strip().removeprefix(UNKNOWN).strip()
            found = self.unknown if name.strip().startswith(UNKNOWN) else self.labels
            if name.strip() and label not in found:
                found.append(label)
        self.require_consistent(self.position)

    def require_consistent(self, position: str) -> None:
        """Raise `UserError`, naming `position`, for a label that is both known and unknown."""
        if both := sorted({*self.labels} & {*self.unknown}):
            raise UserError(f"{position}: label {both[0]!r} is both known and unknown")


def image_at(
    names: Iterable[str], options: ReadOptions, folders: Sequence[Path], position: str
) -> AnnotatedImage:
    """The image whose file has one of `names`, the likeliest first: below `options.images`,
    otherwise in each of `folders`. Windows' `\\` becomes `/`.

    Raises `UserError`, naming `position`, for empty names.
    """
    places = [options.images] if options.images else folders
    texts = [name.strip().replace("\\", "/") for name in names if name.strip()]
    paths = [(place / text).as_posix() for text in texts for place in places]
    if not paths:
        raise UserError(f"{position}: no path")
    return AnnotatedImage(paths[0], other_paths=paths[1:], position=position)


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


def joined(images: Iterable[AnnotatedImage]) -> list[AnnotatedImage]:
    """Images of the same file as one, with the labels and objects of all.

    Raises `UserError` where they contradict each other.
    """
    first: dict[str, AnnotatedImage] = {}
    for one in images:
        image = first.setdefault(one.path, one)
        if image is one:
            continue
        if image.split != one.split:
            raise UserError(
                f"{one.position}: {one.path} is in {one.split or 'no split'} here, and in "
                f"{image.split or 'no split'} at {image.position}"
            )
        image.labels = list(dict.fromkeys([*image.labels, *one.labels]))
        image.unknown = list(dict.fromkeys([*image.unknown, *one.unknown]))
        image.objects += one.objects
        image.require_consistent(one.position)
    return list(first.values())


def least_confidence(found: Iterable[float], file: Path, options: ReadOptions) -> float:
    """The confidence from which a label counts: --min-confidence or, if there are fractions, 0.5,
    which is printed."""
    if options.min_confidence is not None:
        return options.min_confidence
    fractions = [one for one in found if one not in (0, 1)]
    if not fractions:
        return 0.0
    below = sum(one < SURE for one in fractions)
    print_line(
        f"{file}: {len(fractions)} labels have a confidence between 0 and 1: those from {SURE} on "
        f"count ({below} do not); --min-confidence sets another"
    )
    return SURE


def print_unused(names: Iterable[str], images: Iterable[AnnotatedImage], file: Path) -> None:
    """Print the labels that the source names, and no image of it has."""
    used = {label for one in images for label in one.named}
    if unused := [name for name in dict.fromkeys(names) if name not in used]:
        print_line(f"{file}: labels that no image of it has: {shortened(unused, 10)}")


def shortened(texts: Sequence[str], most: int) -> str:
    """The first `most` of `texts`, and how many more there are."""
    more = f", and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
