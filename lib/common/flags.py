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
    choices: Sequence[Any] | None = None,
    short: str | None = None,
    group: str | None = None,
) -> Any:
    """A dataclass field with the help, choices, short form and `--help` group of its flag.

    A field without a group belongs to the group of the field before it.
    """
    metadata = {"help": text, "choices": choices, "short": short, "group": group}
    return dataclasses.field(default=default, metadata=metadata)


def flag_name(field_name: str) -> str:
    """`batch_size` -> `--batch-size`."""
    return "--" + field_name.replace("_", "-")


def parse_flags(dataclass: type, description: str, argv: Sequence[str] | None) -> dict[str, Any]:
    """The fields of `dataclass` that `argv` sets; fields at their defaults are left out."""
    parser = Parser(description=description)
    add_argument = parser.add_argument
    hints = typing.get_type_hints(dataclass)
    for item in dataclasses.fields(dataclass):
        if title := item.metadata["group"]:
            add_argument = parser.add_argument_group(title).add_argument
        names = [name for name in (item.metadata["short"], flag_name(item.name)) if name]
        options = {"help": item.metadata["help"], "default": argparse.SUPPRESS}
        base = _base_type(hints[item.name])
        if base is bool:
            add_argument(*names, action="store_true", **options)
            continue
        if item.default is not None:
            options["help"] += f" (default: {item.default})"
        add_argument(*names, type=base, choices=item.metadata["choices"], **options)
    return vars(parser.parse_args(argv))


def read_values(dataclass: type, values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Those of `values` that are fields of `dataclass`, converted to the fields' types.

    Raises `UserError`, naming `source`, for a value of another type.
    """
    hints = typing.get_type_hints(dataclass)
    return {
        item.name: _convert(values[item.name], hints[item.name], item.name, source)
        for item in dataclasses.fields(dataclass)
        if item.name in values
    }


def from_arguments(dataclass: Any, arguments: argparse.Namespace, **others: Any) -> Any:
    """A `dataclass` of those arguments of a script that are its fields, and of `others`."""
    names = {item.name for item in dataclasses.fields(dataclass)} & set(vars(arguments))
    return dataclass(**{name: getattr(arguments, name) for name in names} | others)


def _base_type(hint: Any) -> type:
    """`int | None` -> `int`."""
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _convert(value: Any, hint: Any, name: str, source: str) -> Any:
    """`value` as the type of field `name`; raises `UserError` if it is of another type."""
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
    # not the text of a list or mapping, which may have parts without end
    shown = repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    raise UserError(f"{source}: {name}: {shown} is not of type {kind.__name__}")
