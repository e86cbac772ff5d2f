"""Makes small experiment folders as evaluate.py leaves them, without a model."""

from pathlib import Path

import numpy as np

from lib.common.files import write_json, write_npz, write_text
from lib.config import Config
from lib.scoring.metrics import average_precision


def make_evaluated(
    folder: Path,
    labels: tuple[str, ...] = ("red", "green", "blue"),
    images: int = 12,
    quality: float = 0.3,
    noise: int = 0,
    ignored: float = 0.0,
    **flags,
) -> Path:
    """An experiment folder with what evaluate.py writes into it, of scores drawn by `noise`.

    Targets depend on shape alone, and scores are the better, the larger `quality`; `flags` are
    those of its config.yaml.
    """
    random = np.random.default_rng(0)
    shape = images, len(labels)
    targets = (random.random(shape) < 0.4).astype(np.uint8)
    ignore = random.random(shape) < ignored
    scores = np.random.default_rng(noise).random(shape) * (1 - quality) + quality * targets
    folder.mkdir(parents=True, exist_ok=True)
    write_npz(
        folder / "scores.npz",
        scores=scores.astype(np.float32),
        targets=targets,
        ignore=ignore,
        paths=np.array([f"data/images/{row}.png" for row in range(images)]),
        labels=np.array(labels),
    )
    precisions = average_precision(scores.astype(np.float32), targets, ignore)
    results = {
        "mAP": precisions.mean(),
        "pointing_accuracy": 0.75,
        "per_label": dict(zip(labels, precisions.tolist(), strict=True)),
    }
    write_json(folder / "results.json", results)
    write_text(folder / "config.yaml", Config(**flags).to_yaml())
    return folder
