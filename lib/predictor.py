"""A trained experiment, ready to score pictures; only a published one needs its data folder.

Shapes: B images, C labels, H x W patches.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib.common.errors import UserError
from lib.config import Config
from lib.data.bad_images import Unreadable, refuse
from lib.data.dataset import evaluation_loader
from lib.data.folder import DataFolder, Split
from lib.data.transforms import read_image, resize, to_pixels
from lib.experiment import checkpoint
from lib.experiment.folder import Experiment
from lib.experiment.network import build_model, build_normalizer, prepare_for_inference
from lib.runtime.device import autocast, exact_float32, select_device
from lib.runtime.world import World
from lib.scoring.tuning import Cutoffs, Tuning, choose_cutoffs, load_tuning
from lib.training.step import Prediction, predict
from models import official
from models.mlic import MLIC

# of a published config: what scores depend on, and what it may say besides
DECISIVE = (
    *("arch", "data", "img_size", "orid_norm", "embed_type", "num_layers", "num_heads", "pos"),
    *("normalize_before", "rm_cls", "tau"),
)
OPTIONAL = ("norm", "output_stride", "amp", "batch_size", "topk", "threshold")


class LoadedExperiment(NamedTuple):
    """What an experiment folder holds: its configuration, labels (C,) and best EMA model."""

    experiment: Experiment
    config: Config
    labels: list[str]
    model: MLIC


def load_experiment(exp_dir: str | Path) -> LoadedExperiment:
    """Read an experiment folder, or its checkpoint file.

    Everything comes from the checkpoint; that of a published experiment is joined by its
    `config.yaml`, and by labels and label embeddings of the data folder. Raises `UserError` for a
    folder without a checkpoint, and for parts that do not fit each other.
    """
    experiment = Experiment.open(exp_dir)
    content = checkpoint.load_model_checkpoint(experiment.best_checkpoint)
    if content.published:
        config, labels, embeddings = _parts_of_published(experiment, content)
    else:
        config, labels, embeddings = _parts_of_own(content)
    _require_fit(content, config, len(labels), embeddings)
    try:
        model = build_model(config, len(labels), embeddings, weights="none")
    except UserError as error:
        source = experiment.config_file if content.published else content.file
        raise UserError(f"{source}: {error}") from error
    content.load_into(model, content.state_for(model))
    return LoadedExperiment(experiment, config, labels, model.eval())


def _require_fit(
    content: checkpoint.ModelCheckpoint,
    config: Config,
    num_labels: int,
    embeddings: np.ndarray | Tensor | None,
) -> None:
    """Raise `UserError` for a model other than the checkpoint's, before memory is taken for it."""
    try:
        with torch.device("meta"):
            form = build_model(config, num_labels, embeddings, weights="none")
    except (UserError, RuntimeError):
        return  # some of timm's models cannot be built without memory; what is wrong shows later
    content.require_fit(form, content.state_for(form))


def _parts_of_own(
    content: checkpoint.ModelCheckpoint,
) -> tuple[Config, list[str], Tensor | None]:
    """Configuration, labels and the place of fixed label embeddings, of this project's form."""
    config = Config.from_dict(content.config, str(content.file))
    if config.embed_type == "random":
        return config, content.labels, None
    stored = content.weights.get("label_embeddings")
    if stored is None or stored.ndim != 2:
        raise UserError(
            f"{content.file}: a checkpoint of another model: no label_embeddings (C, T)"
        )
    return config, content.labels, torch.zeros_like(stored)


def _parts_of_published(
    experiment: Experiment, content: checkpoint.ModelCheckpoint
) -> tuple[Config, list[str], np.ndarray | None]:
    """Configuration, labels and fixed label embeddings of a published experiment."""
    if not experiment.config_file.is_file():
        raise UserError(
            f"{content.file}: a published checkpoint needs its config.yaml: pass the experiment "
            "folder, which holds config.yaml and checkpoints/best_ema_model.pth, as --exp-dir"
        )
    config = Config.load(experiment.config_file, required=DECISIVE, optional=OPTIONAL)
    learned = official.holds_label_embeddings(content.weights)
    if learned != (config.embed_type == "random"):
        raise UserError(
            f"{content.file}: holds {'' if learned else 'no '}learned label embeddings, but "
            f"{experiment.config_file} says embed_type: {config.embed_type}"
        )
    data = DataFolder.open(config.data)
    embeddings = None if learned else data.label_embeddings(config.embed_type)
    return config, data.labels, embeddings


class Predictor:
    """Scores pictures with an experiment's best EMA model.

    `device` is one of `--device`'s names; `world`, instead, the processes that share a stream.
    Raises `UserError` for what is no experiment, or does not fit together.

    >>> predictor = Predictor("experiments/mlic_voc2007/exp1")
    >>> scores, attention = predictor(["a.jpg", "b.jpg"])
    >>> found = scores >= predictor.cutoffs().values
    """

    def __init__(
        self, exp_dir: str | Path, device: str = "auto", world: World | None = None
    ) -> None:
        self.world = world or World(select_device(device))
        self.device = self.world.device
        self.experiment, self.config, self.labels, model = load_experiment(exp_dir)
        self.grid = model.grid
        self.amp = self.config.amp
        self.model = prepare_for_inference(model.to(self.device), self.config.img_size)
        self.normalizer = build_normalizer(self.config, self.device)

    def __call__(
        self, images: Sequence[str | Path | Image.Image | np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Score paths, Pillow images or RGB uint8 arrays (H, W, 3); grey ones may be (H, W).

        Gives scores (B, C) in [0, 1], of `labels` in their order, and attention (B, C, H, W), which
        sums to 1 over the patches (to less where a class token takes its share), both float32.
        Raises `UserError` for a picture that cannot be read, and for arrays of another kind.
        """
        if isinstance(images, (str, Path, Image.Image)):
            raise UserError("Predictor: expected a list of pictures, got a single one")
        step = self.config.eval_batch_size
        parts = [self._score(images[start : start + step]) for start in range(0, len(images), step)]
        if not parts:
            size = len(self.labels)
            return np.empty((0, size), np.float32), np.empty((0, size, *self.grid), np.float32)
        scores, attention = zip(*parts, strict=True)
        return np.concatenate(scores), np.concatenate(attention)

    def tuning(self) -> Tuning | None:
        """Thresholds and temperature of the experiment's `thresholds.json`; None without one."""
        return load_tuning(self.experiment.path, self.labels, self.experiment.best_checkpoint)

    def cutoffs(self, threshold: float | str | None = None) -> Cutoffs:
        """The score from which each label counts as predicted: `threshold`, or "tuned" ones.

        None takes the tuned ones where the experiment has some, else that of its training.
        """
        return choose_cutoffs(threshold, self.tuning, len(self.labels), self.config.threshold)

    def _score(
        self, images: Sequence[str | Path | Image.Image | np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        size = self.config.img_size
        pixels = torch.stack([to_pixels(resize(_as_image(image), size)) for image in images])
        with torch.inference_mode(), exact_float32(), autocast(self.device, self.amp):
            output = self.model(self.normalizer(pixels.to(self.device)))
        attention = output.attention.unflatten(-1, self.grid)
        return output.logits.float().sigmoid().cpu().numpy(), attention.float().cpu().numpy()

    def stream(
        self,
        split: Split,
        batch_size: int | None = None,
        workers: int | None = None,
        unreadable: Callable[[list[Unreadable]], None] = refuse,
    ) -> Iterator[Prediction]:
        """`engine.predict` over this process's images of `split`, in file order, with M = 1."""
        loader = evaluation_loader(
            split,
            image_size=self.config.img_size,
            batch_size=batch_size or self.config.eval_batch_size,
            workers=workers,
            world=self.world,
        )
        how = (self.normalizer, self.device, self.amp, "predict", unreadable)
        return predict([self.model], loader, *how)


def _as_image(image: str | Path | Image.Image | np.ndarray) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray):
        colors = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if image.dtype != np.uint8 or not colors or not image.size:
            raise UserError(
                f"Predictor: an array {image.shape} of {image.dtype}; expected RGB as uint8 "
                "(height, width, 3)"
            )
        return Image.fromarray(image).convert("RGB")
    return read_image(image)
