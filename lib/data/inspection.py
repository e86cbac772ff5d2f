"""Finds faults of a data folder, and shows how its labels are distributed: tables and figures.

Shapes: N images of a split, C labels.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.common.figures import INK, PALE, saved_figure
from lib.data.folder import Split
from lib.data.pictures import PictureHeader
from lib.data.preparation.boxes import is_outside
from lib.data.preparation.groups import identical_files, sibling_stem
from lib.data.preparation.label_checks import odd_labels

MAX_LISTED = 10
MAX_LABELS = 60  # in a figure, the most frequent ones
MAX_LABEL_LENGTH = 40  # characters in a figure


def same_by(
    splits: Mapping[str, Split], key: Callable[[str], Hashable | None]
) -> Iterator[list[str]]:
    """Groups of images whose paths have the same `key`, each as `split: path`; None is no key."""
    groups = defaultdict(list)
    for name, split in splits.items():
        for path in split.paths:
            if (value := key(path)) is not None:
                groups[value].append(f"{name}: {path}")
    return (group for group in groups.values() if len(group) > 1)


def across_splits(group: Sequence[str]) -> bool:
    """Whether a group of images is in several splits: leakage."""
    return len({line.split(":")[0] for line in group}) > 1


def one_of_each_split(group: Sequence[str]) -> str:
    """A group of images in one short line: the first of each split, and how many more there are."""
    first: dict[str, str] = {}
    for line in group:
        first.setdefault(line.split(":")[0], line)
    shown = list(first.values()) if len(first) > 1 else list(group[:2])
    more = len(group) - len(shown)
    return " = ".join(shown) + (f" and {more} more" if more else "")


def copy_numbers(paths: Sequence[str]) -> dict[str, int]:
    """The same number for files of the same bytes; files without a copy have none."""
    groups = enumerate(identical_files(paths))
    return {paths[row]: number for number, rows in groups for row in rows}


def file_stem(path: str) -> str | None:
    """A file's name without ending, and without what Roboflow adds to a picture's versions; None
    for a mere number, which every split may count anew."""
    stem = sibling_stem(path) or Path(path).stem
    return None if stem.isdigit() else stem


def odd_label_lines(labels: Sequence[str], splits: Mapping[str, Split]) -> list[str]:
    """What is odd about the labels, and how `scripts/custom.py` reads them otherwise."""
    marked = np.concatenate([(one.targets != 0) | one.ignore for one in splits.values()])
    rows = [[labels[column] for column in np.flatnonzero(row).tolist()] for row in marked]
    return [f"{finding.line}; {finding.remedy}" for finding in odd_labels(rows)]


def boxes_outside(
    boxes: Mapping[str, Sequence[Mapping[str, Any]]], headers: Mapping[str, PictureHeader]
) -> list[str]:
    """The boxes that leave their picture, or end before they begin."""
    return [
        f"{path}: {one['label']} {one['box']} in {headers[path].size[0]} x {headers[path].size[1]}"
        for path, objects in boxes.items()
        for one in objects
        if path in headers and is_outside(one["box"], headers[path].size)
    ]


def overview(labels: Sequence[str], splits: Mapping[str, Split]) -> Iterator[str]:
    """Lines of a table: sizes of the splits, then each label's positives."""
    for name, split in splits.items():
        per_image = split.targets.sum(axis=1)
        yield (
            f"{name}: {len(split)} images, {per_image.mean():.2f} labels an image (at most "
            f"{per_image.max()}), {np.count_nonzero(per_image == 0)} without labels, "
            f"{np.count_nonzero(split.ignore)} entries ignored"
        )
    width = max(5, *map(len, labels))
    yield f"{'label'.ljust(width)}" + "".join(f"{name:>9}{'share':>8}" for name in splits)
    positives = {name: split.targets.sum(axis=0) for name, split in splits.items()}
    for column, label in enumerate(labels):
        cells = (
            f"{positives[name][column]:>9}{positives[name][column] / len(split):>8.1%}"
            for name, split in splits.items()
        )
        yield label.ljust(width) + "".join(cells)


def draw_frequencies(
    file: Path, name: str, labels: Sequence[str], splits: Mapping[str, Split]
) -> None:
    """Draw each label's fraction of images, train beside test, most frequent first."""
    shares = {split: part.targets.mean(axis=0) for split, part in splits.items()}
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
    targets = split.targets.astype(np.float64)
    order = np.argsort(-targets.sum(axis=0), kind="stable")[:MAX_LABELS]
    together = targets[:, order].T @ targets[:, order]
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
