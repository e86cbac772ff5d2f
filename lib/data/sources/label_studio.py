"""A .json file of Label Studio, in its form JSON or JSON-MIN."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.pictures import IMAGE_ENDINGS
from lib.data.sources.annotations import LABEL_NAMES, ReadOptions, Row, image_of, image_paths
from lib.data.sources.cells import finite, split_labels, texts
from lib.data.sources.json_files import keys_of_first

IMAGE_KEYS = ("image", "img", "picture", "photo", "url")
# keys of JSON-MIN that are no controls of the page
OTHER_KEYS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
NO_BOX = "shape without a box"
Opinion = tuple[list[str], list[dict[str, Any]]]  # labels and objects of one annotator


def is_label_studio(source: Path, options: ReadOptions) -> bool:
    """Whether `source` is a .json file with a list of tasks, or of JSON-MIN's rows."""
    keys = keys_of_first(source)
    return "data" in keys or bool(keys & (OTHER_KEYS - {"id"}))


def read_label_studio(file: Path, options: ReadOptions, notes: list[str]) -> Iterator[Row]:
    """A row for each image. A label counts if more than half of the annotators give it, and is
    unknown if half of them do. Skipped annotations and predictions do not count, and tasks without
    an annotation are left out."""
    content = decode_json(file, list[Any])
    controls = _controls(content, options)
    tasks: dict[str, tuple[str, list[Opinion]]] = {}
    size_of: dict[str, tuple[int, int]] = {}
    group_of: dict[str, str] = {}
    ignored: Counter[str] = Counter()
    for number, task in enumerate(content):
        position = f"{file}: [{number}]"
        data = task.get("data", task) if isinstance(task, dict) else {}
        data = data if isinstance(data, dict) else {}
        name = _image(data)
        if name is None:
            raise UserError(
                f'{position}: expected a task with "data": {{"image": ...}} (read as JSON of Label '
                "Studio), or its form JSON-MIN"
            )
        _, opinions = tasks.setdefault(name, (position, []))
        if options.group and data.get(options.group) is not None:
            group_of[name] = str(data[options.group])
        for results in _results(task, controls, position):
            labels, objects, size = _opinion(results, position, ignored)
            opinions.append((labels, objects))
            if size:
                size_of[name] = size
    empty = sum(not opinions for _, opinions in tasks.values())
    if empty:
        notes.append(f"left out: {empty} tasks without an annotation")
    several = sum(len(opinions) > 1 for _, opinions in tasks.values())
    if several:
        notes.append(f"{several} images of several annotators: a label counts by majority")
    if boxless := ignored.pop(NO_BOX, 0):
        notes.append(f"{boxless} turned rectangles, points or other shapes: labels without a box")
    for kind, count in ignored.items():
        notes.append(f"left out: {count} results of the type {kind!r}")
    if others := _other_texts(content, controls):
        notes.append(f"keys that are no labels: {', '.join(others)}; --labels-column names one")
    for name, (position, opinions) in tasks.items():
        if opinions:
            labels, objects = _majority(opinions)
            image = image_of(_paths(name, options, file), labels, position)
            image.objects, image.size, image.has_fractions = objects, size_of.get(name), True
            image.group = group_of.get(name)
            yield Row(image, None, position)


def _controls(content: Sequence[Any], options: ReadOptions) -> set[str]:
    """The keys of JSON-MIN that hold labels: those of `LABEL_NAMES`, those that hold several
    choices or shapes in any row, and the one that is given."""
    found = {options.labels_column} if options.labels_column else set()
    for row in content:
        for key, value in row.items() if isinstance(row, dict) and "data" not in row else ():
            shapes = isinstance(value, list) and any(isinstance(one, dict) for one in value)
            choices = isinstance(value, dict) and "choices" in value
            if shapes or choices or key.lower() in LABEL_NAMES:
                found.add(key)
    return found


def _other_texts(content: Sequence[Any], controls: set[str]) -> list[str]:
    """The keys of JSON-MIN that hold texts, and are neither the image nor read as labels."""
    rows = [row for row in content if isinstance(row, dict) and "data" not in row]
    keys = {key for row in rows for key, value in row.items() if isinstance(value, str)}
    return sorted(keys - controls - OTHER_KEYS - set(IMAGE_KEYS))


def _majority(opinions: Sequence[Opinion]) -> Opinion:
    """The labels of the majority, `?label` for a draw, and the boxes of the first who drew any."""
    votes = Counter(label for labels, _ in opinions for label in dict.fromkeys(labels))
    kept = [label for label, count in votes.items() if 2 * count > len(opinions)]
    drawn = [f"?{label}" for label, count in votes.items() if 2 * count == len(opinions)]
    objects = []
    for label in kept:
        for _, found in opinions:
            if same := [one for one in found if one["label"] == label]:
                objects += same
                break
    return [*kept, *drawn], objects


def _image(data: Mapping[str, Any]) -> str | None:
    """The value of the image's key: a usual one, or the only one that looks like an image file."""
    named = {key: value for key, value in data.items() if isinstance(value, str)}
    for key in IMAGE_KEYS:
        if named.get(key, "").strip():
            return named[key]
    files = [text for text in named.values() if Path(text).suffix.lower() in IMAGE_ENDINGS]
    return files[0] if len(files) == 1 else None


def _results(task: Mapping[str, Any], controls: set[str], position: str) -> list[list[Any]]:
    """The results of each annotator of a task."""
    if "data" not in task:  # JSON-MIN: one annotator, and a key for each control of the page
        return [[(key, value) for key, value in task.items() if key in controls]]
    found = []
    given = task.get("annotations", task.get("completions")) or []
    for annotation in given if isinstance(given, list) else [given]:
        results = annotation.get("result") if isinstance(annotation, dict) else None
        if not isinstance(results, list):
            raise UserError(f'{position}: expected "annotations": [{{"result": [...]}}]')
        if not annotation.get("was_cancelled"):
            found.append(results)
    return found


def _opinion(
    results: Sequence[Any], position: str, ignored: Counter[str]
) -> tuple[list[str], list[dict[str, Any]], tuple[int, int] | None]:
    """The labels and objects of one annotator, and the picture's size if a result says it."""
    labels: list[str] = []
    objects: list[dict[str, Any]] = []
    size = None
    for result in results:
        for value, kind in _values(result):
            if not isinstance(value, dict):
                labels += split_labels(value) if isinstance(value, str) else []
                continue
            names = next((texts(v) for k, v in value.items() if _holds_labels(k, v)), None)
            if names is None:
                ignored[kind] += 1
                continue
            labels += [name.strip() for name in names]
            corners = _corners(value, position)
            if corners is None and ({"x", "y"} <= set(value) or "points" in value):
                ignored[NO_BOX] += 1
            if corners:
                objects += [
                    {"label": name.strip(), "box": corners, "difficult": False} for name in names
                ]
            size = _size({**(result if isinstance(result, dict) else {}), **value}) or size
    return labels, objects, size


def _values(result: Any) -> list[tuple[Any, str]]:
    """The values of a result, or of a key of JSON-MIN, with the type of each."""
    if isinstance(result, dict):
        value = result.get("value")
        return [(value if isinstance(value, dict) else {}, str(result.get("type")))]
    key, value = result if isinstance(result, tuple) else ("", None)
    if isinstance(value, list):
        return [(one, key) for one in value if isinstance(one, dict)]
    return [(value, key)] if isinstance(value, (dict, str)) else []


def _holds_labels(key: str, value: Any) -> bool:
    return (key == "choices" or key.endswith("labels")) and isinstance(value, list)


def _corners(value: Mapping[str, Any], position: str) -> list[float] | None:
    """The box of a rectangle or polygon, from percent to fractions; None for other shapes, and for
    a turned rectangle, which no box describes."""
    try:
        if isinstance(value.get("points"), list):
            xs, ys = zip(*((finite(x), finite(y)) for x, y in value["points"]), strict=True)
            edges = [min(xs), min(ys), max(xs), max(ys)]
        elif {"x", "y", "radiusX", "radiusY"} <= set(value) and not value.get("rotation"):
            x, y, across, down = (finite(value[key]) for key in ("x", "y", "radiusX", "radiusY"))
            edges = [x - across, y - down, x + across, y + down]
        elif {"x", "y", "width", "height"} <= set(value) and not value.get("rotation"):
            x, y, width, height = (finite(value[key]) for key in ("x", "y", "width", "height"))
            edges = [x, y, x + width, y + height]
        else:
            return None
    except (TypeError, ValueError):
        raise UserError(f"{position}: a shape whose coordinates are not numbers") from None
    return [edge / 100 for edge in edges]


def _size(value: Mapping[str, Any]) -> tuple[int, int] | None:
    try:
        width, height = (int(finite(value.get(f"original_{side}"))) for side in ("width", "height"))
    except ValueError:
        return None
    return width, height


def _paths(name: str, options: ReadOptions, file: Path) -> list[str]:
    """Where an image may be: below --images by its path in the storage, or by its name."""
    path = name
    if "?" in name or "://" in name:
        with contextlib.suppress(ValueError):  # a name that only looks like a URL
            parts = urlsplit(name)
            path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    path = path.replace("\\", "/")
    bare = path.rsplit("/", 1)[-1]
    names = [path.lstrip("/"), bare, unquote(bare)]
    found = [one for text in names for one in image_paths(text, options, (file.parent, Path()))]
    return list(dict.fromkeys(found))
