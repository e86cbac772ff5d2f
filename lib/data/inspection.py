"""Finds faults of a data folder, and shows how its labels are distributed: tables and figures.

Shapes: N images of a split, C labels.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, vstack

from lib.common.figures import INK, PALE, saved_figure
from lib.data.boxes import has_area, leaves, read_boxes
from lib.data.folder import DataFolder
from lib.data.preparation.boxes import headers_of
from lib.data.preparation.groups import identical_files, sibling_stem
from lib.data.preparation.label_checks import Labels, odd_labels
from lib.data.preparation.writer import find_broken, split_line
from lib.data.split import Split

MAX_LABELS = 60  # in a figure, the most frequent ones
MAX_LABEL_LENGTH = 40  # characters in a figure
Splits = Mapping[str, Split]


def overview(labels: Sequence[str], splits: Splits) -> Iterator[str]:
    """Lines of a table: sizes of the splits, then each label's positives."""
    for name, split in splits.items():
        per_image = np.diff(split.positives.indptr)
        yield f"{split_line(name, per_image)}, {split.unknown.nnz} entries ignored"
    width = max(5, *map(len, labels))
    yield f"{'label'.ljust(width)}" + "".join(f"{name:>9}{'share':>8}" for name in splits)
    positives = [(split.positives.sum(axis=0), len(split)) for split in splits.values()]
    for column, label in enumerate(labels):
        cells = (f"{count[column]:>9}{count[column] / size:>8.1%}" for count, size in positives)
        yield label.ljust(width) + "".join(cells)


def faults(data: DataFolder, splits: Splits, exif: str) -> Iterator[tuple[str, list[str]]]:
    """Each kind of fault, and those that were found; images are read as `exif` says."""
    for name, split in splits.items():
        empty = np.flatnonzero(split.positives.sum(axis=0) == 0).tolist()
        yield f"labels without positives in {name}", [data.labels[column] for column in empty]
    marks = [split.positives.maximum(split.unknown) for split in splits.values()]
    odd = odd_labels(Labels.of_marks(data.labels, csr_array(vstack(marks))))
    yield "odd labels", [check.line(found) for check, found in odd]
    paths = list(dict.fromkeys(path for split in splits.values() for path in split.paths))
    number_of = {paths[row]: n for n, rows in enumerate(identical_files(paths)) for row in rows}
    leaks, copies = _repeats(splits, lambda path: number_of.get(path, path))
    yield "the same image in several splits (leakage)", leaks
    yield "the same image twice in a split", copies
    versions, _ = _repeats(splits, lambda path: _file_stem(path, numbers=False))
    yield "the same file name in several splits (leakage, if versions of one image)", versions
    numbers, _ = _repeats(splits, lambda path: _file_stem(path, numbers=True))
    yield "the same number as a name in several splits (leakage, if no list counts anew)", numbers
    yield "unreadable files", list(find_broken(paths).values())
    headers = headers_of(paths, exif)
    turned = [path for path, header in headers.items() if header.turned]
    yield f"images with an EXIF turn (read as {exif})", turned
    outside = [
        f"{path}: {one['label']} {one['box']} in {headers[path].size[0]} x {headers[path].size[1]}"
        for path, objects in read_boxes(data.path).items()
        for one in objects
        if path in headers and (leaves(one["box"], headers[path].size) or not has_area(one["box"]))
    ]
    yield "boxes outside their images", outside


def _repeats(splits: Splits, key: Callable[[str], Hashable | None]) -> tuple[list[str], list[str]]:
    """Groups of images whose paths have the same `key` (None is no key), a line each: those that
    are in several splits, and those within one."""
    groups: dict[Hashable, list[tuple[str, str]]] = defaultdict(list)
    for name, split in splits.items():
        for path in split.paths:
            if (value := key(path)) is not None:
                groups[value].append((name, f"{name}: {path}"))
    across: list[str] = []
    within: list[str] = []
    for group in groups.values():
        first = dict(reversed(group))  # of each split
        shown = [first[name] for name in splits if name in first]
        if len(shown) == 1:
            shown = [line for _, line in group[:2]]
        more = f" and {len(group) - len(shown)} more" if len(group) > len(shown) else ""
        if len(group) > 1:
            (across if len(first) > 1 else within).append(" = ".join(shown) + more)
    return across, within


def _file_stem(path: str, numbers: bool) -> str | None:
    """A file's name without ending, and without what Roboflow adds to a picture's versions, if it
    is a mere number or, without `numbers`, another name; else None."""
    stem = sibling_stem(path) or Path(path).stem
    return stem if stem.isdigit() == numbers else None


def draw_frequencies(file: Path, name: str, labels: Sequence[str], splits: Splits) -> None:
    """Draw each label's fraction of images, train beside test, most frequent first."""
    shares = {split: part.positives.sum(axis=0) / len(part) for split, part in splits.items()}
    first = next(iter(shares))
    order = np.argsort(-shares[first], kind="stable")[:MAX_LABELS]
    height = max(2.5, 0.22 * len(order) + 1.2)
    places = np.arange(len(order))
    shown = f", the {MAX_LABELS} most frequent of {len(labels)}" if len(labels) > MAX_LABELS else ""
    with saved_figure(file, (8, height)) as figure:
        axes = figure.subplots()
        for offset, (split, color) in enumerate((("train", INK), ("test", PALE))):
            if split in shares:
                widths = shares[split][order]
                axes.barh(places + 0.4 * offset, widths, height=0.4, color=color, label=split)
        axes.set_yticks(places + 0.2, [_short(labels[column]) for column in order], fontsize=8)
        axes.set_ylim(len(places) - 0.2, -0.4)  # the first on top, no room around
        axes.set_xlabel("share of images")
        axes.set_title(f"{name}: labels{shown}")
        axes.legend(frameon=False, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)


def draw_cooccurrence(file: Path, name: str, labels: Sequence[str], split: Split) -> None:
    """Draw how often a label (row) occurs with another (column), in one split."""
    counts = split.positives.sum(axis=0).astype(np.int64)
    order = np.argsort(-counts, kind="stable")[:MAX_LABELS]
    shown = split.positives[:, order].astype(np.int64)
    together = (shown.T @ shown).toarray()
    share = together / np.maximum(together.diagonal()[:, None], 1)
    np.fill_diagonal(share, np.nan)
    side = max(4, 0.19 * len(order) + 2.2)
    names = [_short(labels[column]) for column in order]
    with saved_figure(file, (side + 0.8, side)) as figure:
        axes = figure.subplots()
        image = axes.imshow(share, cmap="viridis", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_ylabel("of the images with this label ...")
        axes.set_xlabel("... the share that has this one too")
        axes.set_title(f"{name}: labels that come together ({split.name})", fontsize=10)
        figure.colorbar(image, shrink=0.7)


def _short(label: str) -> str:
    """The label, cut to `MAX_LABEL_LENGTH`."""
    if len(label) <= MAX_LABEL_LENGTH:
        return label
    return f"{label[: MAX_LABEL_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"
