"""Exports a trained model as one folder: `model.safetensors`, `config.json` and a card.

`lib/experiment/hub.py` reads it back. Shapes: B images, S image side.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from lib.common.errors import UserError, writing
from lib.common.files import UMASK, staged_folder, write_json
from lib.experiment.hub import SETTINGS, WEIGHTS
from lib.experiment.loading import load_experiment
from lib.experiment.provenance import package_versions
from lib.predictor import Predictor
from models import registry

# the flags of a training that inference depends on
FLAGS = (
    *("model", "arch", "img_size", "exif", "norm", "orid_norm", "embed_type", "output_stride"),
    *("num_layers", "num_heads", "pos", "normalize_before", "rm_cls", "tau", "no_context"),
    *("csra_heads", "csra_lambda", "hidden_dim", "amp", "batch_size", "topk", "threshold"),
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def export_hub(
    exp_dir: str | Path,
    predictor: Predictor,
    target: Path,
    images: np.ndarray,
    write_card: Callable[[Path, float], None],
    dtype: str = "float32",
) -> float:
    """Write the model of an experiment, which `predictor` has on the CPU, and its settings to the
    folder `target`; `write_card` gets the folder and the difference of scores, to add a card.

    What is written is loaded and scores `images` (B, S, S, 3), on the CPU; gives the largest
    difference from the experiment's scores, which is 0 unless the weights are rounded to bfloat16.
    Raises `UserError` where `target` exists, or where float32 weights give other scores; nothing is
    written then.
    """
    if target.exists():
        raise UserError(f"{target}: exists; remove it, or pass another --save-dir")
    model = load_experiment(exp_dir).model  # the predictor's has no batch norms any more
    with staged_folder(target) as stage:
        state = {
            name: tensor.to(DTYPES[dtype]) if tensor.is_floating_point() else tensor
            for name, tensor in model.state_dict().items()
        }
        with writing(stage / WEIGHTS):
            save_file(state, stage / WEIGHTS, metadata={"format": "pt"})
            (stage / WEIGHTS).chmod(0o666 & ~UMASK)  # safetensors lets nobody else read it
        write_json(stage / SETTINGS, _settings(predictor, stage / WEIGHTS))
        written = Predictor(stage, device="cpu")
        found, expected = (one(list(images))[0] for one in (written, predictor))
        difference = float(np.abs(found - expected).max())
        if dtype == "float32" and difference:
            raise UserError(f"{target}: the written model differs by {difference:.2g}")
        write_card(stage, difference)
    return difference


def _settings(predictor: Predictor, weights: Path) -> dict[str, Any]:
    """The content of `config.json`: what inference needs, and for other readers what it means."""
    config, tuning = predictor.config, predictor.tuning()
    mean, std = registry.normalization(config.normalization, registry.find_arch(config.arch))
    values = config.to_dict()
    return {
        "labels": predictor.labels,
        "config": {name: values[name] for name in FLAGS} | {"data": Path(config.data).name},
        "tuning": tuning.to_dict(predictor.labels, weights) if tuning else None,
        "thresholds": predictor.cutoffs().values.astype(float).tolist(),
        "temperature": tuning.temperature if tuning else 1.0,
        "normalization": {"mean": list(mean), "std": list(std)},
        "grid": list(predictor.grid),
        "heatmaps": list(predictor.model.maps),
        "versions": package_versions(),
    }
