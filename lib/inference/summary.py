"""The lines that infer.py prints: of each image, at the end, and if there is nothing to show."""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lib.common.text import escape_controls
from lib.data.bad_images import Unreadable
from lib.data.split import Split
from lib.inference.tags import Selection, TaggedImage
from lib.scoring.mistakes import CORRECT, FALSE_ALARM, MISSED
from lib.scoring.tuning import Cutoffs

MAX_LISTED = 20  # unreadable files, or endings


def table(image: TaggedImage, cutoffs: Cutoffs) -> str:
    """The lines of an image: its path, then its labels with their scores."""
    path = escape_controls(image.path)
    if not image.tags:
        label, score = image.best
        return f"{path}\n  none reaches {cutoffs.words}; the highest is {label} {score:.3f}"
    width = max(len(tag.label) for tag in image.tags)
    return "\n".join([path, *(f"  {tag.label:<{width}}  {tag.score:.3f}" for tag in image.tags)])


def passed_over(files: Iterable[Path]) -> Iterator[str]:
    """A line about how many of `files`, which are no images, have each ending; none without any."""
    endings = collections.Counter(file.suffix.lower() for file in files)
    ordered = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    counts = [f"{count} {escape_controls(ending) or 'without ending'}" for ending, count in ordered]
    more = [f"{len(counts) - MAX_LISTED} more endings"] if len(counts) > MAX_LISTED else []
    if counts:
        yield "passed over: " + ", ".join(counts[:MAX_LISTED] + more)


def closing(
    pictures: int,
    total: int,
    verdicts: Mapping[str, int],
    unreadable: Sequence[Unreadable],
    foreign: Sequence[str],
    listed: bool,
) -> Iterator[str]:
    """The last lines: the unreadable files, those with `foreign` XMP files, and what was found in
    the others. `listed`: whether predictions.jsonl was written."""
    if unreadable:
        yield f"unreadable, left out: {len(unreadable)}"
        yield from (f"  {escape_controls(image.reason)}" for image in unreadable[:MAX_LISTED])
        if len(unreadable) > MAX_LISTED:
            more = len(unreadable) - MAX_LISTED
            yield f"  and {more} more" + ("; all are in predictions.jsonl" if listed else "")
    if foreign:
        yield (
            f"left as they are, without these tags: {len(foreign)} .xmp files that another program "
            "wrote or changed"
        )
        yield from (f"  {escape_controls(path)}.xmp" for path in foreign[:MAX_LISTED])
        if len(foreign) > MAX_LISTED:
            yield f"  and {len(foreign) - MAX_LISTED} more"
    found = f"{pictures} of {total} images"
    if any(verdicts[kind] for kind in (CORRECT, MISSED, FALSE_ALARM)):
        found += "; labels: " + ", ".join(
            f"{verdicts[kind]} {kind}" for kind in (CORRECT, MISSED, FALSE_ALARM)
        )
    yield found


def facts(split: Split, selection: Selection, pictures: int) -> str:
    """The line below the page's heading."""
    known = ", or that the ground truth names" if split.has_known else ""
    top = "" if selection.top is None else f"the {selection.top} highest "
    what = " with a mistake" if selection.only_errors else ""
    of_all = "" if pictures == len(split) else f" of {len(split)}"
    return f"{pictures}{of_all} images{what}; {top}labels from {selection.cutoffs.words}{known}."


def nothing(split: Split, selection: Selection, unreadable: Sequence[Unreadable]) -> str:
    """Why there is no image to show, and what to do."""
    if len(unreadable) == len(split):
        return f"no image to show: {unreadable[0].reason}" + (
            f", and {len(unreadable) - 1} more like it" if len(unreadable) > 1 else ""
        )
    what = "mistake" if selection.only_errors else "label"
    of_these = "" if selection.only is None else " among --labels"
    return (
        f"no image to show: none of {len(split)} has a {what}{of_these}, counted from "
        f"{selection.cutoffs.words}; change --threshold or these flags"
    )
