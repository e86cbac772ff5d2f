"""`--cache-features`: what a frozen backbone makes of each image, computed once, so that only the
head runs in training.

Shapes: N images, V views, B images of a batch, P + N tokens, D features.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.config import Config
from lib.data.augment import draw_flip
from lib.data.bad_images import BadImages
from lib.data.cache import RowCache, get_cache, image_digest
from lib.data.dataset import ImageDataset, SampleKey, SplitDataset, Unreadable, generator_of
from lib.data.loader import EvaluationBatches
from lib.data.split import Split
from lib.data.workers import BatchLoader
from lib.experiment.network import build_normalizer
from lib.runtime.device import amp_dtype, autocast, exact_float32, memory_guard
from models.classifier import Classifier


class Encoder:
    """The frozen backbone of `model` on `device`: uint8 pixels (B, 3, S, S) -> the tokens
    (B, P + N, D) that training with `config` computes.

    `shape` is (P + N, D); `digest` a hash of all that tokens depend on but the images.
    """

    def __init__(self, model: Classifier, config: Config, device: torch.device) -> None:
        self.normalizer, self.device = build_normalizer(config, device), device
        self.amp = config.amp
        dtype = amp_dtype(device) if config.amp else torch.float32
        self.backbone = model.backbone  # frozen, and so in eval mode
        self.shape = model.token_shape
        settings = (config.arch, config.output_stride, config.rm_cls, str(dtype), self.shape)
        pixels = [self.normalizer.mean.flatten().tolist(), self.normalizer.std.flatten().tolist()]
        content = hashlib.sha256(repr((*settings, *pixels)).encode())
        for name, tensor in model.backbone.state_dict().items():
            content.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        self.digest = content.hexdigest()[:20]

    def __call__(self, pixels: Tensor) -> np.ndarray:
        """Tokens, float32."""
        memory = memory_guard(f"with {len(pixels)} images at once", "lower --batch-size")
        with torch.inference_mode(), exact_float32(), memory:
            images = self.normalizer(pixels.to(self.device, non_blocking=True))
            with autocast(self.device, self.amp):
                return self.backbone(images).float().cpu().numpy()


class FeatureDataset(SplitDataset):
    """The tokens of a split, float32 (P + N, D), from a cache (N, V, P + N, D) with those of each
    image and, if V is 2, of its mirror image. With a `seed`, an image is mirrored where
    `--augment flip` flips it."""

    def __init__(self, split: Split, cache: RowCache, seed: int | None = None) -> None:
        super().__init__(split)
        self.cache, self.seed = cache, seed

    def read(self, key: SampleKey) -> np.ndarray:
        """The tokens of one image."""
        views = self.cache.row(key.row)
        mirrored = self.seed is not None and draw_flip(generator_of(key, self.seed))
        return np.array(views[int(mirrored)])

    def blank(self) -> np.ndarray:
        """Zeros."""
        return np.zeros(self.cache.shape[2:], np.float32)


def cached_features(
    encoder: Encoder,
    dataset: ImageDataset,
    config: Config,
    folder: Path,
    bad_images: BadImages,
    *,
    mirrored: bool,
) -> RowCache:
    """The tokens of the images of `dataset`, and if `mirrored` of their mirror images, in a file in
    `folder`; computed where it is missing. See `get_cache`."""
    views = 2 if mirrored else 1
    images = image_digest(dataset.split.paths, config.img_size, config.exif)
    digest = hashlib.sha256(f"{images} {encoder.digest}".encode()).hexdigest()[:20]
    return get_cache(
        folder / f"{digest}-features-{views}.npy",
        (len(dataset), views, *encoder.shape),
        np.float32,
        "--cache-features",
        limit=config.cache_limit,
        bad_images=bad_images,
        write_rows=partial(_write_features, encoder, dataset, config, views),
    )


def _write_features(
    encoder: Encoder, dataset: ImageDataset, config: Config, views: int, name: str
) -> Iterator[Unreadable | None]:
    features = np.load(name, mmap_mode="r+", allow_pickle=False)
    batches = EvaluationBatches(len(dataset), config.eval_batch_size)
    for batch in BatchLoader(dataset, batches, workers=config.workers, device=encoder.device):
        yield from batch.errors
        batch = batch.without_padding()
        if not len(batch.rows):
            continue
        for view, pixels in enumerate((batch.inputs, batch.inputs.flip(-1))[:views]):
            features[batch.rows.numpy(), view] = encoder(pixels)
        yield from (None for _ in batch.rows)
