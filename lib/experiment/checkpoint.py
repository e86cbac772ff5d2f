"""Checkpoints: plain types and tensors only, read without running code, written atomically.

`best_ema_model.pth` is `{model, labels, config}` and needs no other file (a published one is a flat
state dict); `last.pth` (`lib/training/resume.py`) has what a run needs to resume. Files come from
strangers too: they may be damaged, or made to run code or to take memory.
"""

import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lib.common.errors import UserError
from lib.common.files import atomic_write, sync_folder
from lib.common.readers import read_json
from lib.config import Config
from lib.data.lists import check_labels
from lib.experiment import hub
from models import ModelError, official
from models.classifier import Classifier
from models.untrusted import is_finite, is_plain, require_honest_size

SHARED_TENSORS = 4  # how many times tensors that share memory may exceed the size of their file
POSITION_TABLE = "backbone.trunk.pos_embed"  # of a ViT
# beginnings of names in earlier checkpoints -> today's
RENAMED_PARTS = {
    "label_embeddings": "head.label_embeddings",
    "encoder.": "head.encoder.",
    "inter_modal.": "head.inter_modal.",
    "intra_modal.": "head.intra_modal.",
    "object_classifier.": "head.object_classifier.",
    "patch_classifier.": "head.patch_classifier.",
}
# parts of a network, with the flags that their names and their shapes depend on; the first counts
DEPENDS_ON = (
    ("head.inter_modal.label_projection.", "--model", "--embed-type"),
    ("head.inter_modal.", "--model", "--arch"),
    ("head.intra_modal.", "--no-context", "--arch"),
    ("head.encoder.", "--num-layers", "--arch"),
    ("head.label_embeddings", "--model", "--embed-type or number of labels"),
    ("backbone.", "--arch", "--arch, or --img-size of a ViT"),
    ("head.", "--model", "number of labels, --arch, or a flag of the head"),
)


def save(path: str | Path, content: dict[str, Any], previous: str | Path | None = None) -> None:
    """Write `content` to `path` atomically; an existing file is kept as `previous`."""
    with atomic_write(path, "wb", previous) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch fails again while it closes the archive, and hides a full disk or Ctrl-C
            raise (error.__context__ or error) from None
    sync_folder(Path(path).parent)


def save_model(path: str | Path, model: nn.Module, labels: Sequence[str], config: Config) -> None:
    """Write a model with all that inference needs."""
    content = {"model": model.state_dict(), "labels": list(labels), "config": config.to_dict()}
    save(path, content)


def with_current_names(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """The state dict of a network under today's names; see `RENAMED_PARTS`."""

    def current(name: Any) -> Any:
        for old, new in RENAMED_PARTS.items():
            if str(name).startswith(old):
                return new + name[len(old) :]
        return name

    return {current(name): value for name, value in state.items()}


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

    def state_for(self, model: Classifier) -> dict[str, Tensor]:
        """The weights under this project's names, and what `model` adds to a published form.

        Raises `UserError` for a published one and another network than the method's.
        """
        if self.published:
            if model.name != "mlic":
                raise UserError(f"{self.file}: a published checkpoint: pass --model mlic")
            return official.from_published(self.weights, model)
        return dict(self.weights)

    def load_into(self, model: Classifier) -> None:
        """Load all weights. Raises `UserError` for parts that do not fit."""
        state = self.state_for(model)
        self.require_fit(model, state)
        model.load_state_dict(state)

    def start(self, model: Classifier, labels: Sequence[str], *, keep_classifiers: bool) -> None:
        """Load what does not belong to the labels, for `--pretrained-model`; with
        `keep_classifiers` the rest too. Raises `UserError` for those of other `labels`.

        Fixed label embeddings stay those of `model`; learned ones are loaded only from the same
        label list.
        """
        own, state = model.state_dict(), self.state_for(model)
        if POSITION_TABLE in state and POSITION_TABLE in own:
            try:
                table = model.backbone.resize_position_table(state[POSITION_TABLE])
            except ModelError as error:
                raise UserError(f"{self.file}: {error}") from error
            state[POSITION_TABLE] = table
        same_labels = self.labels == list(labels)
        if keep_classifiers and not same_labels:
            known = "of other labels" if self.labels else "that does not say its labels"
            if self.labels and sorted(self.labels) == sorted(labels):
                known = "of the same labels in another order"
            raise UserError(
                f"--keep-classifiers: {self.file} is a checkpoint {known}: leave the flag out"
            )
        fresh = () if keep_classifiers else model.label_parts
        vectors = getattr(model.head, "label_embeddings", None)
        if not (isinstance(vectors, nn.Parameter) and same_labels):
            fresh = (*fresh, "head.label_embeddings")
        state |= {name: value for name, value in own.items() if name.startswith(fresh)}
        self.require_fit(model, state)
        model.load_state_dict(state)

    def require_fit(self, model: Classifier, state: Mapping[str, Tensor]) -> None:
        """Raise `UserError` unless `state` has the names and shapes of `model`, which may be on
        the meta device."""
        own = model.state_dict()
        shown = official.published_names({*own, *state}) if self.published else {}
        missing = [name for name in own if name not in state]
        extra = [name for name in state if name not in own]
        if missing or extra:
            name, flags, _ = _part_of(missing or extra)
            raise UserError(
                f"{self.file}: a checkpoint of another {flags}: it "
                f"{'lacks' if missing else 'has'} {shown.get(name, name)} "
                f"({len(missing)} names missing, {len(extra)} unknown)"
            )
        for name, tensor in own.items():
            found = state[name]
            if tensor.shape != found.shape or _kind(tensor) != _kind(found):
                _, _, flags = _part_of([name])
                of = f"another {flags}" if tensor.shape != found.shape else "no model"
                raise UserError(
                    f"{self.file}: a checkpoint of {of}: {shown.get(name, name)} is "
                    f"{_describe(found)}, expected {_describe(tensor)}"
                )


def load_model_checkpoint(path: str | Path) -> ModelCheckpoint:
    """Read `best_ema_model.pth`, in this project's form or the published one, or
    `model.safetensors` with the `config.json` beside it, and check its parts.

    Raises `UserError` for anything else.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        settings = read_json(path.with_name(hub.SETTINGS))
        names = ("labels", "config")
        content: dict[str, Any] = {name: settings.get(name) for name in names}
        content["model"] = read_safetensors(path)
    else:
        content = read_tensors(path)
    if official.is_published(content):
        weights, labels, config = content, None, None
    else:
        for name, kind in {"model": dict, "labels": list, "config": dict}.items():
            if not isinstance(content.get(name), kind):
                raise UserError(
                    f"{path}: not a checkpoint of a model: expected model, labels and config, or "
                    "the tensors of a published checkpoint"
                )
        labels, config = content["labels"], content["config"]
        weights = with_current_names(content["model"])
        if not all(isinstance(label, str) for label in labels):
            raise UserError(f"{path}: its labels are not text")
        check_labels(labels, lambda row: f"{path}: labels[{row}]")
    require_weights(weights, f"{path}: model")
    return ModelCheckpoint(path, weights, labels, config)


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
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged file can raise anything in the reader
        raise UserError(
            f"{path}: no checkpoint of plain tensors, or a truncated or damaged one; nothing was "
            "run from it"
        ) from error
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


def _part_of(names: Sequence[str]) -> tuple[str, str, str]:
    """The name of the first part of `DEPENDS_ON` that is among `names`, with its flags."""
    for part, of_names, of_shapes in DEPENDS_ON:
        for name in names:
            if name.startswith(part):
                return name, of_names, of_shapes
    return names[0], "model", "model"


def _kind(tensor: Tensor) -> str:
    """`floating`, `complex` or `whole`: types that can replace each other."""
    if tensor.is_complex():
        return "complex"
    return "floating" if tensor.is_floating_point() else "whole"


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


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
