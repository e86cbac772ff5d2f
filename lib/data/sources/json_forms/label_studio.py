"""A .json file of Label Studio, in its form JSON or JSON-MIN."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.readers import decode_json
from lib.data.pictures import IMAGE_ENDINGS
from lib.data.sources.annotations import LABEL_NAMES, AnnotatedImage, ReadOptions, image_at
from lib.data.sources.cells import around, finite, picture_size, split_labels, texts

IMAGE_KEYS = ("image", "img", "picture", "photo", "url")
# keys of JSON-MIN's rows that are no controls of the page
KEYS_OF_ROWS = "annotator annotation_id created_at updated_at lead_time"
NO_BOX = "shape without a box"
Opinion = list[tuple[str, list[float] | None]]  # labels of one annotator, with their boxes


def read_label_studio(file: Path, options: ReadOptions) -> list[AnnotatedImage]:
    """The images of all tasks. A label counts if more than half of the annotators give it, and is
    unknown if half of them do. Skipped annotations and predictions do not count, and tasks without
    an annotation are left out."""
    content = decode_json(file, list[Any])
    controls, others = _keys_of_rows(content, options)
    images: dict[str, AnnotatedImage] = {}
    opinions: dict[str, list[Opinion]] = {}
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
        if name not in images:
            images[name] = image_at(_names(name), options, (file.parent, Path()), position)
            images[name].has_fractions = True
        if options.group and data.get(options.group) is not None:
            images[name].group = str(data[options.group])
        for results in _results(task, controls, position):
            opinion = _opinion(results, images[name], position, ignored)
            opinions.setdefault(name, []).append(opinion)
    for name, given in opinions.items():
        _add_majority(images[name], given)
    boxless = ignored.pop(NO_BOX, 0)
    for count, what in (
        (len(images) - len(opinions), "tasks without an annotation: left out"),
        (
            sum(len(given) > 1 for given in opinions.values()),
            "images of several annotators: a label counts by majority",
        ),
        (boxless, "turned rectangles, points or other shapes: labels without a box"),
        *((count, f"results of the type {kind!r}: left out") for kind, count in ignored.items()),
        (len(others), f"keys that are no labels: {', '.join(others)}; --labels-column names one"),
    ):
        if count:
            print_line(f"{file}: {count} {what}")
    return [image for name, image in images.items() if name in opinions]


def _keys_of_rows(content: Sequence[Any], options: ReadOptions) -> tuple[set[str], list[str]]:
    """The keys of JSON-MIN that hold labels: those of `LABEL_NAMES`, those that hold several
    choices or shapes in any row, and the one that is given. And the other ones that hold texts."""
    found = {options.labels_column} if options.labels_column else set()
    others = set()
    for row in content:
        for key, value in row.items() if isinstance(row, dict) and "data" not in row else ():
            shapes = isinstance(value, list) and any(isinstance(one, dict) for one in value)
            choices = isinstance(value, dict) and "choices" in value
            if shapes or choices or key.lower() in LABEL_NAMES:
                found.add(key)
            elif isinstance(value, str):
                others.add(key)
    return found, sorted(others - found - {"id", *KEYS_OF_ROWS.split(), *IMAGE_KEYS})


def _image(data: Mapping[str, Any]) -> str | None:
    """The value of the image's key: a usual one, or the only one that looks like an image file."""
    named = {key: value for key, value in data.items() if isinstance(value, str)}
    for key in IMAGE_KEYS:
        if named.get(key, "").strip():
            return named[key]
    files = [text for text in named.values() if Path(text).suffix.lower() in IMAGE_ENDINGS]
    return files[0] if len(files) == 1 else None


def _results(task: Mapping[str, Any], controls: set[str], position: str) -> Iterator[list[Any]]:
    """The results of each annotator of a task, in the form of JSON."""
    if "data" not in task:  # JSON-MIN: one annotator, and a key for each control of the page
        found: list[Any] = []
        for key in (key for key in task if key in controls):
            value = task[key]
            if isinstance(value, str):
                value = {"choices": split_labels(value)}
            values = value if isinstance(value, list) else [value]
            found += [{"type": key, "value": one} for one in values if isinstance(one, dict)]
        yield found
        return
    given = task.get("annotations", task.get("completions")) or []
    for annotation in given if isinstance(given, list) else [given]:
        results = annotation.get("result") if isinstance(annotation, dict) else None
        if not isinstance(results, list):
            raise UserError(f'{position}: expected "annotations": [{{"result": [...]}}]')
        if not annotation.get("was_cancelled"):
            yield results


def _opinion(
    results: Sequence[Any], image: AnnotatedImage, position: str, ignored: Counter[str]
) -> Opinion:
    """The labels of one annotator, with their boxes; sets the image's size if a result says it."""
    found: Opinion = []
    for result in results:
        if not isinstance(result, dict):
            continue
        value = result.get("value")
        value = value if isinstance(value, dict) else {}
        names = next((texts(v) for k, v in value.items() if _holds_labels(k, v)), None)
        if names is None:
            ignored[str(result.get("type"))] += 1
            continue
        box = _box(value, position)
        found += [(name.strip(), box) for name in names]
        ignored[NO_BOX] += not box and ({"x", "y"} <= value.keys() or "points" in value)
        said = result | value  # JSON-MIN has the size in the value
        size = picture_size(said.get("original_width"), said.get("original_height"))
        image.size = size or image.size
    return found


def _holds_labels(key: str, value: Any) -> bool:
    return (key == "choices" or key.endswith("labels")) and isinstance(value, list)


def _box(value: Mapping[str, Any], position: str) -> list[float] | None:
    """The box of a rectangle, ellipse or polygon, from percent to fractions; None for other shapes,
    and for a turned one, which no box describes."""

    def numbers(*keys: str) -> list[float]:
        return [finite(value[key]) for key in keys]

    try:
        if isinstance(value.get("points"), list):
            edges = around(value["points"])
        elif value.get("rotation"):
            return None
        elif {"x", "y", "radiusX", "radiusY"} <= value.keys():
            x, y, across, down = numbers("x", "y", "radiusX", "radiusY")
            edges = [x - across, y - down, x + across, y + down]
        elif {"x", "y", "width", "height"} <= value.keys():
            x, y, width, height = numbers("x", "y", "width", "height")
            edges = [x, y, x + width, y + height]
        else:
            return None
    except (TypeError, ValueError):
        raise UserError(f"{position}: a shape whose coordinates are not numbers") from None
    return [edge / 100 for edge in edges]


def _add_majority(image: AnnotatedImage, opinions: Sequence[Opinion]) -> None:
    """Give an image the labels of the majority, `?label` for a draw, and the boxes of the first who
    drew any."""
    votes = Counter(label for given in opinions for label in dict(given))
    kept = [label for label, count in votes.items() if 2 * count > len(opinions)]
    drawn = [f"?{label}" for label, count in votes.items() if 2 * count == len(opinions)]
    image.add_names([*kept, *drawn])
    for label in kept:
        boxes = ([box for name, box in given if name == label and box] for given in opinions)
        for box in next(filter(None, boxes), ()):
            image.objects.append({"label": label, "box": box, "difficult": False})


def _names(url: str) -> list[str]:
    """What the file of an image may be called: its path in the storage, or its name."""
    path = (url.partition("?d=")[2] or url.partition("?")[0]).replace("\\", "/").lstrip("/")
    return [path, path.rsplit("/", 1)[-1]]
