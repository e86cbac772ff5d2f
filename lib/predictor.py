"""A trained experiment that scores images: `from lib.predictor import Predictor`.

Shapes: B images, M maps, C labels, H x W patches.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib.common.console import print_note
from lib.common.errors import UserError
from lib.data.augment import resize
from lib.data.bad_images import BadImages
from lib.data.dataset import ImageDataset, decode, read_image, to_pixels
from lib.data.loader import EvaluationLoader
from lib.data.split import Split
from lib.experiment.loading import load_experiment
from lib.experiment.network import build_normalizer, kernel_note, prepare_for_inference
from lib.experiment.predict import Prediction, predict, scores_of
from lib.runtime.device import (
    amp_dtype,
    autocast,
    emulates_bfloat16,
    exact_float32,
    memory_guard,
    select_device,
    uses_amp,
)
from lib.runtime.world import World
from lib.scoring.boxes import box_around
from lib.scoring.tuning import Cutoffs, Tuning, choose_cutoffs, load_tuning
from models.heads import ATTENTION, BOTH, EVIDENCE

Picture = str | Path | Image.Image | np.ndarray
Threshold = float | str | None


class Predictor:
    """Scores images with an experiment's best EMA model.

    `device` is one of `--device`'s names, such as "cuda:1"; `world`, instead, the ranks that
    divide a split among them. `map` names the heatmaps that calls return, "evidence", "attention"
    or "both"; None takes the first of these that the head has. `precision` is "float32",
    "bfloat16", "auto" (bfloat16 where the device computes it itself) or None, that of the training
    (but float32 on CPUs that are not known to compute bfloat16). `batch_size` None is that of the
    training, at most 64; `workers` processes read the images of `stream`. Raises `UserError` for a
    folder that is no experiment, or whose parts do not fit together, for a map that the head does
    not have, and for bfloat16 on a device without it.

    >>> predictor = Predictor("experiments/mlic_voc2007/exp1")
    >>> predictor.predict(["a.jpg"])
    [{'labels': ['dog'], 'scores': [0.93], 'boxes': [[40.0, 62.5, 310.0, 290.0]]}]
    >>> scores, heatmaps = predictor(["a.jpg", "b.jpg"])
    >>> found = scores >= predictor.cutoffs().values

    It may be used by several threads at once.
    """

    def __init__(
        self,
        exp_dir: str | Path,
        device: str = "auto",
        world: World | None = None,
        map: str | None = None,
        precision: str | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
    ) -> None:
        self.world = world or World(select_device(device))
        self.device = self.world.device
        self.experiment, self.config, self.labels, model = load_experiment(exp_dir)
        self.grid, self.workers = model.grid, workers
        self.batch_size = batch_size or self.config.eval_batch_size
        self.maps: Sequence[str] = (EVIDENCE, ATTENTION) if map == BOTH else (map or model.maps[0],)
        if missing := sorted({*self.maps} - {*model.maps}):
            raise UserError(
                f"--map {map}: --model {self.config.model} has no {missing[0]}: pass --map "
                f"{' or '.join(model.maps)}"
            )
        self.amp = uses_amp(precision, self.device, trained=self.config.amp)
        if emulates_bfloat16(self.device):
            reason = "this CPU is not known to compute bfloat16 itself"
            if self.amp:
                print_note(f"{reason}: --precision float32 is then several times as fast")
            elif self.config.amp and precision is None:
                print_note(f"{reason}: float32 is used; the training had --precision bfloat16")
        others = "free memory that other processes hold (nvidia-smi lists those on a GPU)"
        with memory_guard("for the network itself, without a batch", others):
            self.model = prepare_for_inference(model.to(self.device), self.config.img_size)
        if note := kernel_note(self.model, self.device):
            print_note(note)
        self.normalize = build_normalizer(self.config, self.device)

    @property
    def precision(self) -> str:
        """The number type that products are computed in."""
        dtype = amp_dtype(self.device) if self.amp else torch.float32
        return str(dtype).removeprefix("torch.")

    def __call__(self, images: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray]:
        """Score paths, Pillow images or RGB uint8 arrays (H, W, 3); grey ones may be (H, W).

        Paths and Pillow images are turned by their EXIF, unless the experiment was trained with
        `--exif stored`.

        Returns scores (B, C) in [0, 1], in the order of `labels`, and heatmaps (B, C, H, W) of the
        map, which sum to 1 over the patches (attention to less if a class token takes a part), both
        float32; of both maps (B, 2, C, H, W), evidence first. Raises `UserError` for an image that
        cannot be read, for arrays of another kind, and for scores that are not finite.
        """
        scores, heatmaps = self.score(images, self.maps)
        return scores, heatmaps if len(self.maps) > 1 else heatmaps[:, 0]

    def score(
        self, images: Sequence[Picture], maps: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """As calls do, with heatmaps (B, M, C, H, W) of `maps`, whichever these are."""
        _require_several(images)
        shape = (0, len(maps), len(self.labels), *self.grid)
        parts = [(np.empty((0, len(self.labels)), np.float32), np.empty(shape, np.float32))]
        for start in range(0, len(images), self.batch_size):
            parts.append(self._score(images[start : start + self.batch_size], maps))
        scores, heatmaps = map(np.concatenate, zip(*parts, strict=True))
        return scores, heatmaps

    def predict(
        self, images: Iterable[Picture], top: int | None = None, threshold: Threshold = None
    ) -> list[dict[str, Any]]:
        """`predict_each` as a list."""
        return list(self.predict_each(images, top, threshold))

    def predict_each(
        self, images: Iterable[Picture], top: int | None = None, threshold: Threshold = None
    ) -> Iterator[dict[str, Any]]:
        """What is found in each of `images`, which may be endless; they are read in batches.

        `labels` and `scores`, the highest first, of those that reach `cutoffs(threshold)`, at most
        `top` of them; and `boxes`, around the heatmap of each, `[x0, y0, x1, y1]` in pixels of the
        picture as it is read: turned upright, unless trained with `--exif stored`. Raises
        `UserError` for what is no image, and for a single one.
        """
        _require_several(images)
        cutoffs = self.cutoffs(threshold).values
        waiting = iter(images)
        while batch := list(itertools.islice(waiting, self.batch_size)):
            pictures = [_as_image(image, self.config.exif) for image in batch]
            found = zip(pictures, *self._score(pictures, self.maps[:1]), strict=True)
            for picture, scores, heatmaps in found:
                order = np.argsort(-scores, kind="stable")
                columns = [column for column in order if scores[column] >= cutoffs[column]][:top]
                boxes = [box_around(heatmaps[0, column]) * (picture.size * 2) for column in columns]
                yield {
                    "labels": [self.labels[column] for column in columns],
                    "scores": [float(scores[column]) for column in columns],
                    "boxes": [box.round(1).tolist() for box in boxes],
                }

    @functools.cached_property
    def tuning(self) -> Tuning | None:
        """Thresholds and temperature in the experiment's `thresholds.json`; None without one."""
        return load_tuning(self.experiment.path, self.labels, self.experiment.best_checkpoint)

    def cutoffs(self, threshold: Threshold = None) -> Cutoffs:
        """The score from which each label counts as predicted: `threshold`, or "tuned" ones.

        None takes the tuned ones if the experiment has them, else the threshold of its training.
        """
        return choose_cutoffs(
            threshold, lambda: self.tuning, len(self.labels), self.config.threshold
        )

    def _score(
        self, images: Sequence[Picture], maps: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """`score` of one batch."""
        size, exif = self.config.img_size, self.config.exif
        views = [to_pixels(resize(_as_image(image, exif), size)) for image in images]
        pixels = torch.from_numpy(np.stack(views))
        memory = memory_guard(f"with {len(pixels)} images at once", "lower batch_size")
        with torch.inference_mode(), exact_float32(), memory:
            with autocast(self.device, self.amp):
                output = self.model(self.normalize(pixels.to(self.device)))
            heatmaps = torch.stack([output.heatmaps(name) for name in maps], dim=1)
            heatmaps = heatmaps.unflatten(-1, self.grid)
        return scores_of(output.logits), heatmaps.cpu().numpy()

    def stream(self, split: Split, bad_images: BadImages) -> Iterator[Prediction]:
        """Predictions for this rank's images of `split`, in file order, with M = 1.

        Unreadable images are left out and added to `bad_images`.
        """
        loader = EvaluationLoader(
            ImageDataset(split, self.config.img_size, self.config.exif),
            batch_size=self.batch_size,
            workers=self.workers,
            world=self.world,
            bad_images=bad_images,
        )
        return predict([self.model], loader, self.normalize, self.device, self.amp)


def _require_several(images: object) -> None:
    single = isinstance(images, np.ndarray) and images.ndim < 4  # (B, H, W, 3) are several
    if single or isinstance(images, (str, Path, Image.Image)):
        raise UserError("Predictor: expected a list of images, got a single one")


def _as_image(image: Picture, exif: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return decode(image, "Predictor: a Pillow image", exif)
    if isinstance(image, np.ndarray):
        colors = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if image.dtype != np.uint8 or not colors or not image.size:
            raise UserError(
                f"Predictor: an array {image.shape} of {image.dtype}; expected RGB as uint8 "
                "(height, width, 3)"
            )
        return Image.fromarray(image).convert("RGB")
    return read_image(image, exif)
