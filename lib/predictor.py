"""A trained experiment, ready to score pictures; needs no data folder.

Shapes: B images, C labels, H x W patches.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from lib import checkpoint
from lib.builder import build_model, build_normalizer
from lib.config import Config
from lib.dataset import evaluation_loader
from lib.device import autocast, select_device
from lib.engine import Prediction, predict
from lib.errors import UserError
from lib.experiment import Experiment
from lib.manifest import Split
from lib.transforms import read_image, resize, to_pixels
from models.mlic import MLIC


class LoadedExperiment(NamedTuple):
    """What an experiment folder holds: its configuration, labels (C,) and best EMA model."""

    experiment: Experiment
    config: Config
    labels: list[str]
    model: MLIC


def load_experiment(exp_dir: str | Path) -> LoadedExperiment:
    """Read an experiment folder, or its checkpoint file; everything comes from the checkpoint.

    Raises `UserError` for a folder without one, and for one that does not fit its configuration.
    """
    experiment = Experiment.open(exp_dir)
    file = experiment.best_checkpoint
    content = checkpoint.load_model_checkpoint(file)
    config = Config.from_dict(content["config"], str(file))
    labels, state = content["labels"], content["model"]
    embeddings = None
    if config.embed_type != "random":
        stored = state.get("label_embeddings")
        if stored is None or stored.ndim != 2:
            raise UserError(f"{file}: a checkpoint of another model: no label_embeddings (C, T)")
        embeddings = torch.zeros_like(stored)
    model = build_model(config, len(labels), embeddings, weights="none")
    checkpoint.restore(model, state, file)
    return LoadedExperiment(experiment, config, labels, model.eval())


class Predictor:
    """Scores pictures with an experiment's best EMA model.

    >>> scores, attention = Predictor("experiments/mlic_voc2007/exp1")(["a.jpg", "b.jpg"])
    """

    def __init__(self, exp_dir: str | Path, device: str = "auto") -> None:
        self.device = select_device(device)
        self.experiment, self.config, self.labels, self.model = load_experiment(exp_dir)
        self.model.to(self.device)
        self.normalizer = build_normalizer(self.config, self.device)

    def __call__(
        self, images: Sequence[str | Path | Image.Image | np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Score a batch of paths, Pillow images or RGB uint8 arrays (H, W, 3).

        Gives scores (B, C) in [0, 1] and attention (B, C, H, W), which sums to 1 over the patches
        (to less where a class token takes its share).
        """
        size = self.config.img_size
        pixels = torch.stack([to_pixels(resize(_as_image(image), size)) for image in images])
        with torch.inference_mode(), autocast(self.device, self.config.amp):
            output = self.model(self.normalizer(pixels.to(self.device)))
        attention = output.attention.unflatten(-1, self.model.grid)
        return output.logits.float().sigmoid().cpu().numpy(), attention.cpu().numpy()

    def stream(
        self, split: Split, batch_size: int | None = None, workers: int | None = None
    ) -> Iterator[Prediction]:
        """`engine.predict` over the images of `split`, in file order, with M = 1."""
        loader = evaluation_loader(
            split,
            size=self.config.img_size,
            batch_size=batch_size or self.config.eval_batch_size,
            workers=workers,
            device=self.device,
        )
        return predict(
            [self.model], loader, self.normalizer, self.device, self.config.amp, "predict"
        )


def _as_image(image: str | Path | Image.Image | np.ndarray) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray):
        return Image.fromarray(image).convert("RGB")
    return read_image(image)
