"""`infer.py --format`: the tags of images for other programs, on stdout."""

import csv
import io
import json
from collections.abc import Callable

from lib.inference.tags import TaggedImage


def as_json(image: TaggedImage) -> str:
    """One line of JSON for an image: its path, labels and scores."""
    labels = [tag.label for tag in image.predicted]
    scores = [round(tag.score, 6) for tag in image.predicted]
    return json.dumps({"path": image.path, "labels": labels, "scores": scores})


def as_csv(image: TaggedImage) -> str:
    """A row of path, label and score for each label; without labels one with the path alone."""
    text = io.StringIO()
    rows = [(image.path, tag.label, f"{tag.score:.6f}") for tag in image.predicted]
    csv.writer(text, lineterminator="\n").writerows(rows or [(image.path, "", "")])
    return text.getvalue().rstrip("\n")


# without XMP, whose files are written beside the images
TEXTS: dict[str, Callable[[TaggedImage], str]] = {"json": as_json, "csv": as_csv}
HEADERS = {"csv": ["path,label,score"]}
