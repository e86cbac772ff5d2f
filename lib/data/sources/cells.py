"""Text of one cell or value: several labels, a mark of 0 or 1, numbers, a box."""

import ast
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lib.common.errors import UserError

SEPARATORS = ",;|"
NAME_KEYS = ("name", "label", "tag")  # of an object that stands for a label
ZEROS_AND_ONES = re.compile(r"-?[01](\.0*)?(\s+-?[01](\.0*)?)+")  # as NumPy prints them
Mark = bool | None | str
INVISIBLE = dict.fromkeys(map(ord, "\u200b\ufeff"))
BRACKETS = {"[": "]", "{": "}", "(": ")"}
MARKS: dict[str, Mark] = (
    dict.fromkeys("1 true yes y t x".split(), True)
    | dict.fromkeys("0 false no n f".split(), False)
    | dict.fromkeys("-1 u ? unknown uncertain".split())
    | dict.fromkeys(("", "nan", "na", "n/a", "none", "null"), "")
)


def split_labels(
    text: str, separator: str | None = None, comma_in_names: bool = False
) -> list[str]:
    """The labels of one text: a list of JSON, Python or NumPy, also of objects with a name,
    `{"choices": [...]}`, or labels separated by `separator` (default: any of `,;|`; with
    `comma_in_names`, a comma before a space is part of a name).

    >>> split_labels("dog; cat"), split_labels("['dog', 'cat']"), split_labels("dog cat", " ")
    (['dog', 'cat'], ['dog', 'cat'], ['dog', 'cat'])
    """
    text = text.strip()
    if text[:1] in BRACKETS and (found := _listed(text)) is not None:
        return found
    if ZEROS_AND_ONES.fullmatch(text):
        return text.split()
    if separator is None:
        return [
            label.strip() for label in re.split(r"[;|]|,(?! )" if comma_in_names else "[,;|]", text)
        ]
    if len(text) > 1 and BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1]
    return parts_of(text, separator)


def parts_of(text: str, separator: str) -> list[str]:
    """The parts of a text, stripped; a separator of white space stands for any white space."""
    if not separator.strip():
        return text.split()
    return [part.strip() for part in text.split(separator)]


def _listed(text: str) -> list[str] | None:
    """The texts of a list, or of an object that holds one list or has a name; None for another
    text."""
    # NumPy prints no commas, without which Python would read texts as one long text
    text = re.sub(r"(?<=[\[,(\s])(nan|NaN|None|null)(?=\s*[\],)])", r'"\1"', text)
    with_commas = re.sub(r"""(['"])\s+(?=['"])""", r"\1, ", text)
    if ZEROS_AND_ONES.fullmatch(text[1:-1].strip()):
        return texts([float(one) for one in text[1:-1].split()])
    for read, content in ((json.loads, text), (ast.literal_eval, with_commas)):
        try:
            value: Any = read(content)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(value, dict):
            values = list(value.values())
            value = values[0] if len(values) == 1 and isinstance(values[0], list) else [value]
        if isinstance(value, (list, tuple, set)):
            return texts(sorted(value, key=str) if isinstance(value, set) else value)
        return None
    return None


def texts(values: Sequence[Any]) -> list[str] | None:
    """Texts and numbers as texts, whole numbers without a point, objects by their name, several
    truth values as 0 and 1; None if another value is there."""
    if len(values) > 1 and all(isinstance(one, bool) for one in values):
        return [str(int(one)) for one in values]
    values = [name_of(one) if isinstance(one, dict) else one for one in values]
    if not all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in values):
        return None
    return [
        str(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in values
    ]


def name_of(value: Mapping[Any, Any]) -> str | None:
    """The name of an object that stands for a label; None where it has none."""
    return next((value[key] for key in NAME_KEYS if isinstance(value.get(key), str)), None)


def clean(label: str) -> str:
    """A label in one Unicode form, with single spaces, without invisible characters."""
    text = unicodedata.normalize("NFC", label).translate(INVISIBLE)
    return re.sub("[ \u00a0\u2009]+", " ", text).strip()


def mark(text: str) -> Mark:
    """True and False for a yes and a no, None for what is uncertain, and "" for a blank cell.

    Raises `KeyError` for another text.
    """
    # pandas writes 1.0 and 0.0 in a column with blanks, Excel '1 for a number that is text
    return MARKS[text.strip().removeprefix("'").lower().removesuffix(".0")]


def are_signs(values: Iterable[str]) -> bool:
    """Whether the marks of a source are 1 and -1 alone, as in CelebA, where -1 is a no."""
    return {one.strip().removeprefix("'").removesuffix(".0") for one in values} == {"1", "-1"}


def finite(text: Any) -> int | float:
    """A number of pixels, whole where it is; raises `ValueError` for another text, infinity, or a
    huge one."""
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError(text)
    value = float(text)
    if not math.isfinite(value) or abs(value) > 1e8:
        raise ValueError(text)
    return int(value) if value.is_integer() else value


def corners(box: Any, position: str) -> list[float]:
    """`x, y, width, height` as a box `[x0, y0, x1, y1]`; raises `UserError`, naming `position`."""
    try:
        x, y, width, height = map(finite, box)
    except (TypeError, ValueError):
        raise UserError(f"{position}: bbox is not x, y, width and height in pixels") from None
    return [x, y, round(x + width, 3), round(y + height, 3)]


def around(points: Iterable[Iterable[Any]]) -> list[float]:
    """The box around points (x, y); raises `TypeError` or `ValueError` for other values."""
    horizontal, vertical = zip(*((finite(x), finite(y)) for x, y in points), strict=True)
    return [min(horizontal), min(vertical), max(horizontal), max(vertical)]


def picture_size(width: Any, height: Any, position: str | None = None) -> tuple[int, int] | None:
    """A picture's width and height in pixels; None where one of them is missing or 0.

    Raises `UserError`, naming `position`, for other texts; without a position they are as missing.
    """
    try:
        sides = int(finite(width)), int(finite(height))
    except ValueError:
        if position and width and height:
            raise UserError(
                f"{position}: width {width!r}, height {height!r}: expected pixels"
            ) from None
        return None
    return sides if min(sides) > 0 else None
