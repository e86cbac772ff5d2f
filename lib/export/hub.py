"""Exports a trained model as one folder: `model.safetensors`, `config.json` and a card.

`lib/experiment/hub.py` reads it back. Shapes: B images, S image side.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from lib.common.errors import UserError
from lib.common.files import atomic_write, write_json
from lib.experiment.hub import SETTINGS, WEIGHTS
from lib.experiment.loading import load_experiment
from lib.experiment.provenance import package_versions
from lib.predictor import Predictor
from models import registry
from models.heads import HEADS

# the flags of a training that inference depends on, beside those of its head
FLAGS = (
    *("model", "arch", "img_size", "exif", "norm", "orid_norm", "output_stride", "rm_cls"),
    *("amp", "batch_size", "topk", "threshold"),
)


def write_model(
    exp_dir: str | Path, predictor: Predictor, folder: Path, images: np.ndarray, dtype: str
) -> float:
    """Write the model of an experiment, which `predictor` has on the CPU, and its settings to
    `folder`.

    What is written is loaded and scores `images` (B, S, S, 3); gives the largest difference from
    the experiment's scores, which is 0 unless the weights are rounded to bfloat16. Raises
    `UserError` where float32 weights give other scores.
    """
    model = load_experiment(exp_dir).model  # the predictor's has no batch norms any more
    state = {
        name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    file = folder / WEIGHTS
    with atomic_write(file, "wb") as out:
        out.write(save(state, metadata={"format": "pt"}))
    write_json(folder / SETTINGS, _settings(predictor, file))
    written = Predictor(folder, device="cpu")
    found, expected = (one(list(images))[0] for one in (written, predictor))
    difference = float(np.abs(found - expected).max())
    if dtype == "float32" and difference:
        raise UserError(f"{file}: the written model differs by {difference:.2g}")
    return difference


def _settings(predictor: Predictor, weights: Path) -> dict[str, Any]:
    """The content of `config.json`: what inference needs, and for other readers what it means."""
    config, tuning = predictor.config, predictor.tuning
    mean, std = registry.normalization(config.normalization, registry.find_arch(config.arch))
    values = config.to_dict()
    flags = (*FLAGS, *HEADS[config.model].flags)
    return {
        "labels": predictor.labels,
        "config": {name: values[name] for name in flags} | {"data": Path(config.data).name},
        "tuning": tuning and tuning.to_dict(weights),
        "thresholds": predictor.cutoffs().values.astype(float).tolist(),
        "temperature": tuning.temperature if tuning else 1.0,
        "normalization": {"mean": list(mean), "std": list(std)},
        "grid": list(predictor.grid),
        "heatmaps": list(predictor.model.maps),
        "versions": package_versions(),
    }
