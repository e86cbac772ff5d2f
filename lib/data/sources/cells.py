"""Text of one cell or value: several labels, a mark of 0 or 1, numbers, a box."""

import ast
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from lib.common.errors import UserError

SEPARATORS = ",;|"
Mark = bool | None | str
BRACKETS = {"[": "]", "{": "}", "(": ")"}
MARKS: dict[str, Mark] = (
    dict.fromkeys("1 true yes y t x".split(), True)
    | dict.fromkeys("0 false no n f".split(), False)
    | dict.fromkeys("-1 u ? unknown uncertain".split())
    | dict.fromkeys(("", "nan", "na", "n/a", "none", "null"), "")
)


def split_labels(text: str, separator: str | None = None) -> list[str]:
    """The labels of one text: a list of JSON, Python or NumPy, `{"choices": [...]}`, or labels
    separated by `separator` (default: any of `,;|`).

    >>> split_labels("dog; cat"), split_labels("['dog', 'cat']"), split_labels("dog cat", " ")
    (['dog', 'cat'], ['dog', 'cat'], ['dog', 'cat'])
    """
    text = text.strip()
    if text[:1] in BRACKETS and (found := _listed(text)) is not None:
        return found
    if separator is not None and len(text) > 1 and BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1]
    if separator is not None and not separator.strip():
        return text.split()
    for other in SEPARATORS if separator is None else ():
        text = text.replace(other, SEPARATORS[0])
    return [label.strip() for label in text.split(separator or SEPARATORS[0])]


def _listed(text: str) -> list[str] | None:
    """The texts of a list, or of an object that holds one list; None for another text."""
    # NumPy prints no commas, which Python would read as one long text
    text = re.sub(r"(?<=[\[,(\s])(nan|NaN|None|null)(?=\s*[\],)])", r'"\1"', text)
    with_commas = re.sub(r"""(['"])\s+(?=['"])""", r"\1, ", text)
    for read, content in ((json.loads, text), (ast.literal_eval, with_commas)):
        try:
            value: Any = read(content)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(value, dict) and len(value) == 1:
            value = next(iter(value.values()))
        if isinstance(value, (list, tuple, set)):
            return texts(sorted(value, key=str) if isinstance(value, set) else value)
        return None
    return None


def texts(values: Sequence[Any]) -> list[str] | None:
    """Texts and numbers as texts, whole numbers without a point; None if another value is there."""
    if not all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in values):
        return None
    return [
        str(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in values
    ]


def mark(text: str) -> Mark:
    """True and False for a yes and a no, None for what is uncertain, and "" for a blank cell.

    Raises `KeyError` for another text.
    """
    # pandas writes 1.0 and 0.0 in a column with blanks
    return MARKS[text.strip().lower().removesuffix(".0")]


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
