"""From an experiment folder, or a checkpoint alone, back to its configuration, labels and model."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.common.errors import UserError
from lib.config import Config
from lib.data.folder import DataFolder
from lib.experiment.checkpoint import ModelCheckpoint, load_model_checkpoint
from lib.experiment.folder import Experiment
from lib.experiment.network import build_model, require_known_switch
from models import official
from models.classifier import Classifier

# keys of a published config.yaml: those that scores depend on, and those that may be missing
REQUIRED_KEYS = (
    *("arch", "data", "img_size", "orid_norm", "embed_type", "num_layers", "num_heads", "pos"),
    *("normalize_before", "rm_cls", "tau"),
)
OPTIONAL_KEYS = ("norm", "output_stride", "amp", "batch_size", "topk", "threshold", "exif")


class LoadedExperiment(NamedTuple):
    """What an experiment folder holds: its configuration, labels (C,) and best EMA model."""

    experiment: Experiment
    config: Config
    labels: list[str]
    model: Classifier


class Settings(NamedTuple):
    """What a checkpoint's network is built from; `label_embeddings` (C, T) are fixed ones."""

    config: Config
    labels: list[str]
    label_embeddings: np.ndarray | Tensor | None


def load_experiment(exp_dir: str | Path) -> LoadedExperiment:
    """Read an experiment folder, or its checkpoint file.

    Everything comes from the checkpoint. A published experiment also needs its `config.yaml`, and
    the labels and label embeddings of the data folder. Raises `UserError` for a folder without a
    checkpoint, and for parts that do not fit each other.
    """
    require_known_switch()  # or the checkpoint would be blamed
    experiment = Experiment.open(exp_dir)
    content = load_model_checkpoint(experiment.best_checkpoint)
    if content.config is None or content.labels is None:
        settings = _published_settings(experiment, content)
    else:
        settings = _own_settings(content, content.config, content.labels)
    _require_fit(content, settings)
    try:
        model = _build(settings)
    except UserError as error:
        source = experiment.config_file if content.published else content.file
        raise UserError(f"{source}: {error}") from error
    content.load_into(model)
    return LoadedExperiment(experiment, settings.config, settings.labels, model.eval())


def _build(settings: Settings) -> Classifier:
    config, labels, label_embeddings = settings
    return build_model(config, len(labels), label_embeddings, weights="none")


def _require_fit(content: ModelCheckpoint, settings: Settings) -> None:
    """Raise `UserError` for a model other than the checkpoint's, before memory is allocated."""
    try:
        with torch.device("meta"):
            empty = _build(settings)
    except (UserError, RuntimeError):
        return  # some timm models cannot be built on the meta device; errors appear later
    content.require_fit(empty, content.state_for(empty))


def _own_settings(content: ModelCheckpoint, values: dict, labels: list[str]) -> Settings:
    """The settings in a checkpoint of this project; the label embeddings are a placeholder."""
    config = Config.from_dict(values, str(content.file))
    if not config.has_label_embeddings:
        return Settings(config, labels, None)
    stored = content.weights.get("head.label_embeddings")
    if stored is None or stored.ndim != 2:
        raise UserError(
            f"{content.file}: a checkpoint of another model: no label_embeddings (C, T)"
        )
    return Settings(config, labels, torch.zeros_like(stored))


def _published_settings(experiment: Experiment, content: ModelCheckpoint) -> Settings:
    """The settings of a published experiment, from its `config.yaml` and data folder."""
    if not experiment.config_file.is_file():
        raise UserError(
            f"{content.file}: a published checkpoint needs its config.yaml: pass the experiment "
            "folder, which holds config.yaml and checkpoints/best_ema_model.pth, as --exp-dir"
        )
    config = Config.load(experiment.config_file, required=REQUIRED_KEYS, optional=OPTIONAL_KEYS)
    learned = official.holds_label_embeddings(content.weights)
    if learned != (config.embed_type == "random"):
        raise UserError(
            f"{content.file}: holds {'' if learned else 'no '}learned label embeddings, but "
            f"{experiment.config_file} says embed_type: {config.embed_type}"
        )
    data = DataFolder.open(config.data)
    embeddings = None if learned else data.label_embeddings(config.embed_type)
    return Settings(config, data.labels, embeddings)
