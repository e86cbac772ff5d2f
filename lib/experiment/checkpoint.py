"""Checkpoints: plain types and tensors only, loaded without running code, written whole.

`best_ema_model.pth` is `{model, labels, config}` and needs no other file (a published one is a flat
state dict); `last.pth` holds all that a run needs to go on.
"""

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lib.common.errors import UserError
from lib.common.files import atomic_write, sync_folder
from lib.data.lists import check_labels
from models import official
from models.mlic import MLIC
from models.weights import is_finite, is_plain, require_honest_size

# what names and shapes in a part of the model depend on
NAMES_DEPEND_ON = {"backbone.": "--arch", "encoder.": "--num-layers"}
SHAPES_DEPEND_ON = {
    "backbone.": "--arch, or --img-size of a ViT",
    "encoder.": "--arch",
    "label_embeddings": "--embed-type or number of labels",
    "inter_modal.label_projection.": "--embed-type",
    "object_classifier.": "number of labels or --arch",
    "patch_classifier.": "number of labels or --arch",
}

SHARED = 4  # times that the tensors of a file, some of which are one and the same, may exceed it


def save(path: str | Path, content: dict[str, Any], former: str | Path | None = None) -> None:
    """Write `content` to `path`, whole or not at all; what stood there is kept as `former`."""
    with atomic_write(path, "wb", former) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch fails once more while it closes the archive, and hides a full disk or Ctrl-C
            raise (error.__context__ or error) from None
    sync_folder(Path(path).parent)


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU; refuses files of anything but plain types and tensors, and of
    more than they hold: the memory that is taken is about the size of the file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        require_honest_size(path)
        if zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip():
            raise ValueError("the sum of a part's bytes does not fit")  # torch does not look
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a checkpoint of plain tensors, or a damaged one; nothing was run from it"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # bytes from elsewhere can fail the reader in any way
        raise UserError(f"{path}: a truncated or damaged checkpoint, or no checkpoint") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint: expected names and tensors")
    tensors = list(_tensors(content))
    if not all(map(is_plain, tensors)):
        raise UserError(f"{path}: holds values that are not plain tensors")
    if sum(tensor.nbytes for tensor in tensors) > SHARED * path.stat().st_size:
        raise UserError(f"{path}: not a checkpoint: its tensors claim more numbers than it holds")
    return content


class ModelCheckpoint(NamedTuple):
    """A model's weights as they are stored; `labels` and `config` are None in the published form,
    which keeps them in other files."""

    file: Path
    weights: Mapping[str, Tensor]
    labels: list[str] | None
    config: dict[str, Any] | None

    @property
    def published(self) -> bool:
        return self.config is None

    def state_for(self, model: MLIC) -> dict[str, Tensor]:
        """The weights under this project's names, with all that `model` can do without."""
        if self.published:
            return official.from_published(self.weights, model)
        return dict(self.weights)

    def load_into(self, model: MLIC, state: Mapping[str, Tensor]) -> None:
        """Load `state`, made by `state_for`; a `UserError` says what does not fit."""
        self.require_fit(model, state)
        model.load_state_dict(state)

    def require_fit(self, model: MLIC, state: Mapping[str, Tensor]) -> None:
        """Raise `UserError` unless `state` has the names and shapes of `model`, which may be on
        the meta device."""
        own = model.state_dict()
        shown = official.published_names({*own, *state}) if self.published else {}
        missing = [name for name in own if name not in state]
        extra = [name for name in state if name not in own]
        if missing or extra:
            part = (missing or extra)[0]
            raise UserError(
                f"{self.file}: a checkpoint of another {_source(part, NAMES_DEPEND_ON)}: it "
                f"{'lacks' if missing else 'has'} {shown.get(part, part)} "
                f"({len(missing)} names missing, {len(extra)} unknown)"
            )
        for name, tensor in own.items():
            found = state[name]
            if tensor.shape != found.shape or _kind(tensor) != _kind(found):
                other = tensor.shape != found.shape
                reason = f"of another {_source(name, SHAPES_DEPEND_ON)}" if other else "of no model"
                raise UserError(
                    f"{self.file}: a checkpoint {reason}: {shown.get(name, name)} is "
                    f"{_describe(found)}, expected {_describe(tensor)}"
                )


def load_model_checkpoint(path: str | Path) -> ModelCheckpoint:
    """Read `best_ema_model.pth`, in this project's form or the published one, and check its parts.

    Raises `UserError` for anything else.
    """
    path = Path(path)
    content = load(path)
    if official.is_published(content):
        weights, labels, config = content, None, None
    else:
        for name, kind in {"model": dict, "labels": list, "config": dict}.items():
            if not isinstance(content.get(name), kind):
                raise UserError(
                    f"{path}: not a checkpoint of a model: expected model, labels and config, or "
                    "the tensors of a published checkpoint"
                )
        weights, labels, config = content["model"], content["labels"], content["config"]
        if not all(isinstance(label, str) for label in labels):
            raise UserError(f"{path}: its labels are not text")
        check_labels(labels, lambda row: f"{path}: labels[{row}]")
    require_weights(weights, f"{path}: model")
    return ModelCheckpoint(path, weights, labels, config)


def require_weights(weights: Mapping[Any, Any], place: str) -> None:
    """Raise `UserError`, naming `place`, unless these are plain, finite tensors by name."""
    for name, value in weights.items():
        if not isinstance(name, str) or not is_plain(value):
            raise UserError(f"{place}: {name!r} is no plain tensor by name")
        if not is_finite(value):
            raise UserError(
                f"{place}: {name} holds numbers that are not finite: a training that failed, or a "
                "damaged file"
            )


def _tensors(content: Any) -> Iterator[Tensor]:
    """All tensors anywhere inside `content`, which may refer to a part of itself often."""
    seen, waiting = set(), [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (dict, list, tuple, set)) and id(value) not in seen:
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, dict) else value


def _source(name: str, depends_on: Mapping[str, str]) -> str:
    """What another value of makes the part of `name` differ; the model, where nothing else does."""
    return next((it for part, it in depends_on.items() if name.startswith(part)), "model")


def _kind(tensor: Tensor) -> str:
    """`floating`, `complex` or `whole`: values that can stand for each other."""
    if tensor.is_complex():
        return "complex"
    return "floating" if tensor.is_floating_point() else "whole"


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
