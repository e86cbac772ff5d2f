"""The fields of a dataclass as the flags of a command, and as the keys of a file.

Each field is made by `flag`, with its help beside it. Imports no torch.
"""

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from lib.common.cli import Parser
from lib.common.errors import UserError


def flag(
    default: Any,
    text: str,
    choices: Sequence[str] | None = None,
    short: str | None = None,
    group: str | None = None,
):
    """A field with what its flag needs beside it: help, choices and a short form."""
    metadata = {"help": text, "choices": choices, "short": short}
    return dataclasses.field(default=default, metadata=metadata)


def flag_name(field_name: str) -> str:
    """`batch_size` -> `--batch-size`."""
    return "--" + field_name.replace("_", "-")


def parse_flags(kind: type, description: str, argv: Sequence[str] | None) -> dict[str, Any]:
    """The fields of the dataclass `kind` that flags set; others are at their defaults."""
    parser = Parser(description=description)
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        names = [name for name in (item.metadata["short"], flag_name(item.name)) if name]
        options = {"help": item.metadata["help"], "default": argparse.SUPPRESS}
        if _base_type(hints[item.name]) is bool:
            parser.add_argument(*names, action="store_true", **options)
            continue
        if item.default is not None:
            options["help"] += f" (default: {item.default})"
        base, choices = _base_type(hints[item.name]), item.metadata["choices"]
        parser.add_argument(*names, type=base, choices=choices, **options)
    return vars(parser.parse_args(argv))


def read_values(kind: type, values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Those of `values` that are fields of the dataclass `kind`, as the fields' types.

    Raises `UserError`, naming `source`, for one of another type.
    """
    hints = typing.get_type_hints(kind)
    return {
        item.name: _coerce(values[item.name], hints[item.name], item.name, source)
        for item in dataclasses.fields(kind)
        if item.name in values
    }


def _base_type(hint: Any) -> type:
    """`int | None` -> `int`."""
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _coerce(value: Any, hint: Any, name: str, source: str) -> Any:
    """`value` as the type of field `name`; a `UserError` where it is something else."""
    kind = _base_type(hint)
    if value in (None, "None", "null", "") and kind is not hint:
        return None
    if value is None:
        pass
    elif kind is bool:
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
    elif kind is str:
        if isinstance(value, (str, int, float)):
            return str(value)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            number = kind(value)
            if number == float(value) or math.isnan(number):
                return number
        except (ValueError, OverflowError):
            pass
    raise UserError(f"{source}: {name}: {value!r} is not of type {kind.__name__}")
