"""Checkpoints: plain types and tensors only, read without running code, written atomically.

`best_ema_model.pth` is `{model, labels, config}` and needs no other file (a published one is a flat
state dict); `last.pth` (`lib.training.run_state`) holds what a run needs to resume.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lib.common.errors import UserError
from lib.common.files import atomic_write, sync_folder
from lib.common.readers import read_json
from lib.config import Config
from lib.data.lists import check_labels
from lib.experiment import hub
from lib.experiment.untrusted import read_safetensors, read_tensors, require_weights
from models import official
from models.classifier import Classifier

# flags that names and shapes in a part of the model depend on; the first that differs counts
NAMES_DEPEND_ON = {
    "head.inter_modal.": "--model",
    "head.intra_modal.": "--no-context",
    "head.encoder.": "--num-layers",
    "backbone.": "--arch",
}
SHAPES_DEPEND_ON = {
    "backbone.": "--arch, or --img-size of a ViT",
    "head.encoder.": "--arch",
    "head.label_embeddings": "--embed-type or number of labels",
    "head.inter_modal.label_projection.": "--embed-type",
    "head.": "number of labels, --arch, or a flag of the head",
}
# beginnings of names in earlier checkpoints -> today's
RENAMED_PARTS = {
    "label_embeddings": "head.label_embeddings",
    "encoder.": "head.encoder.",
    "inter_modal.": "head.inter_modal.",
    "intra_modal.": "head.intra_modal.",
    "object_classifier.": "head.object_classifier.",
    "patch_classifier.": "head.patch_classifier.",
}


def with_current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a network under today's names; see `RENAMED_PARTS`."""

    def current(name: Any) -> Any:
        for old, new in RENAMED_PARTS.items():
            if str(name).startswith(old):
                return new + name[len(old) :]
        return name

    return {current(name): value for name, value in state.items()}


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

    def load_into(self, model: Classifier, state: Mapping[str, Tensor]) -> None:
        """Load `state`, made by `state_for`. Raises `UserError` for parts that do not fit."""
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
            names = missing or extra
            prefix = next((one for one in NAMES_DEPEND_ON if _first(names, one)), "")
            part = _first(names, prefix)
            other = NAMES_DEPEND_ON.get(prefix, "--model" if extra else "model")
            raise UserError(
                f"{self.file}: a checkpoint of another {other}: it "
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


def _first(names: Sequence[str], prefix: str) -> str:
    """The first that begins with `prefix`; "" for none."""
    return next((name for name in names if name.startswith(prefix)), "")


def _source(name: str, depends_on: Mapping[str, str]) -> str:
    """The flags that the part of `name` depends on; "model" if it depends on none."""
    return next((it for part, it in depends_on.items() if name.startswith(part)), "model")


def _kind(tensor: Tensor) -> str:
    """`floating`, `complex` or `whole`: types that can replace each other."""
    if tensor.is_complex():
        return "complex"
    return "floating" if tensor.is_floating_point() else "whole"


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
