"""Checkpoints: plain types and tensors only, loaded without running code, written whole.

`best_ema_model.pth` is `{model, labels, config}` and needs no other file; `last.pth` holds all that
a run needs to go on.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.errors import UserError
from lib.files import atomic_write


def save(path: str | Path, content: dict[str, Any]) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_write(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch fails once more while it closes the archive, and hides a full disk or Ctrl-C
            raise (error.__context__ or error) from None


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU; refuses files of anything but plain types and tensors."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a checkpoint of plain tensors, or a damaged one; nothing was run from it"
        ) from error
    except Exception as error:  # bytes from elsewhere can fail the reader in any way
        raise UserError(f"{path}: a truncated or damaged checkpoint") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint: expected names and tensors")
    return content


def load_model_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read `{model, labels, config}`, the form of `best_ema_model.pth`, and check its parts."""
    content = load(path)
    expected = {"model": dict, "labels": list, "config": dict}
    for name, kind in expected.items():
        if not isinstance(content.get(name), kind):
            raise UserError(
                f"{path}: not a checkpoint of this project: expected model, labels and config"
            )
    if not all(
        isinstance(tensor, Tensor) and tensor.layout == torch.strided
        for tensor in content["model"].values()
    ):
        raise UserError(f"{path}: its model holds values that are not plain tensors")
    if not all(isinstance(label, str) for label in content["labels"]):
        raise UserError(f"{path}: its labels are not text")
    return content


def restore(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load `state` into `model`; a `UserError` says which name or shape does not fit."""
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    extra = [name for name in state if name not in own]
    if missing or extra:
        found = f"lacks {missing[0]}" if missing else f"has {extra[0]}"
        raise UserError(
            f"{source}: a checkpoint of another model: it {found} "
            f"({len(missing)} names missing, {len(extra)} unknown)"
        )
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise UserError(
                f"{source}: a checkpoint of another shape: {name} is {tuple(state[name].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )
    model.load_state_dict(state)
