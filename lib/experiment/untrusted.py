"""Guards against files of others: a checkpoint may be damaged, or made to run code or take memory.

`models.untrusted` has the checks of single tensors and archives that these build on.
"""

import math
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from lib.common.errors import UserError
from models.untrusted import is_finite, is_plain, require_honest_size

SHARED_TENSORS = 4  # how many times tensors that share memory may exceed the size of their file


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Read a file of plain types and tensors to the CPU, without running code from it.

    Raises `UserError` for anything else, and for a file that claims more than it holds: the memory
    taken is about the size of the file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        require_honest_size(path)
        if zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip():
            raise ValueError("a part has a wrong checksum")  # torch does not check
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a checkpoint of plain tensors, or a damaged one; nothing was run from it"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged file can raise anything in the reader
        raise UserError(f"{path}: a truncated or damaged checkpoint, or no checkpoint") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint: expected names and tensors")
    tensors = list(_tensors(content))
    if not all(map(is_plain, tensors)):
        raise UserError(f"{path}: holds values that are not plain tensors")
    if sum(tensor.nbytes for tensor in tensors) > SHARED_TENSORS * path.stat().st_size:
        raise UserError(f"{path}: not a checkpoint: its tensors claim more numbers than it holds")
    return content


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file, whose header must fit its size. Raises `UserError`
    for anything else."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        return load_file(path)
    except Exception as error:  # a damaged header can raise anything in the reader
        raise UserError(f"{path}: a truncated or damaged file, or no safetensors") from error


def require_weights(weights: Mapping[Any, Any], source: str) -> None:
    """Raise `UserError`, naming `source`, unless these are plain, finite tensors by name."""
    for name, value in weights.items():
        if not isinstance(name, str) or not is_plain(value):
            raise UserError(f"{source}: {name!r} is no plain tensor by name")
        if not is_finite(value):
            raise UserError(
                f"{source}: {name} holds numbers that are not finite: a training that failed, or a "
                "damaged file"
            )


def require_counts(values: Mapping[str, Any], source: str) -> None:
    """Raise `UserError`, naming `source`, unless whole numbers are not negative and floats are
    finite; other types are not checked."""
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and not (math.isfinite(value) if isinstance(value, float) else value >= 0):
            raise UserError(f"{source}: a damaged state: {name} is {value}")


def fits_optimizer(own: Mapping[str, Any], found: Mapping[str, Any], parameters: list) -> bool:
    """Whether the optimiser of `parameters`, whose state is `own`, can load the state `found`."""
    moments = found.get("state")
    return (
        same_structure(own["param_groups"], found.get("param_groups"))
        and isinstance(moments, dict)
        and all(
            number in range(len(parameters)) and _are_moments(values, parameters[number])
            for number, values in moments.items()
        )
    )


def same_structure(own: Any, found: Any) -> bool:
    """Whether `found` has the keys, lengths and types of `own`, in which None allows anything."""
    if isinstance(own, dict):
        return isinstance(found, dict) and all(
            name in found and same_structure(value, found[name]) for name, value in own.items()
        )
    if isinstance(own, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(own) == len(found)
            and all(map(same_structure, own, found))
        )
    if isinstance(own, (int, float)) and not isinstance(own, bool):
        number = isinstance(found, (int, float)) and not isinstance(found, bool)
        return number and (math.isfinite(found) or not math.isfinite(own))
    return own is None or type(own) is type(found)


def _are_moments(values: Any, parameter: Tensor) -> bool:
    """Whether an optimiser can have kept `values` for `parameter`: a `step` and averages."""
    tensors = isinstance(values, dict) and all(
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.shape in ((), parameter.shape)
        and is_finite(value)
        for value in values.values()
    )
    return tensors and bool((torch.as_tensor(values.get("step", 0)) >= 0).all())


def _tensors(content: Any) -> Iterator[Tensor]:
    """All tensors anywhere inside `content`, which may refer to itself or to a part repeatedly."""
    seen: set[int] = set()
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (dict, list, tuple, set)) and id(value) not in seen:
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, dict) else value
