"""What a run reads: its labels and splits, and the loaders of one of its ranks."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from lib.common.errors import UserError
from lib.common.rank_info import rank_info
from lib.config import Config
from lib.data.bad_images import BadImages
from lib.data.cache import ImageCache, cached_images
from lib.data.dataset import SplitDataset, evaluation_images, training_images
from lib.data.folder import DataFolder, Split
from lib.data.label_embeddings import centered
from lib.data.loader import EvaluationLoader, TrainingBatches, TrainingLoader
from lib.data.workers import machine_cores
from lib.experiment.features import Encoder, FeatureDataset, cached_features
from lib.runtime.world import World
from models.classifier import Classifier

T = TypeVar("T")


class Inputs:
    """Reads and checks the data folder of `config`; `loaders` then starts to read images."""

    def __init__(self, config: Config, world: World) -> None:
        self.config, self.world = config, world
        self.bad_images = BadImages(config.max_bad_images)
        _require_images_for_each(config, world.world_size)
        self.data = DataFolder.open(config.data)
        self.train_split = self.data.split("train")
        self.validation_split = self.data.split(config.select_on).head(config.limit)
        splits = (self.train_split, self.validation_split)
        for split in splits:
            split.require_known()
        self.digests = {split.name: split.digest for split in splits}
        self.train_batches = TrainingBatches(
            len(self.train_split),
            config.batch_size,
            seed=config.seed,
            limit=config.limit,
            accum_steps=config.accum_steps,
            rank=world.rank,
            world_size=world.world_size,
        )

    def label_embeddings(self) -> np.ndarray | None:
        """The vectors (C, T) of `--embed-type`; None for learned ones, and for other heads."""
        if not self.config.has_label_embeddings:
            return None
        embeddings = self.data.label_embeddings(self.config.embed_type)
        return centered(embeddings) if self.config.embed_norm == "center" else embeddings

    def loaders(self, model: Classifier) -> tuple[TrainingLoader, EvaluationLoader]:
        """This rank's loaders for training and validation: of images, or with `--cache-features` of
        what the backbone of `model` makes of them."""
        config, world, bad_images = self.config, self.world, self.bad_images
        train_set: SplitDataset
        validation_set: SplitDataset
        if config.cache_features:
            encoder = Encoder(model, config, world.device)
            folder = Path(config.cache_features)
            flips = config.augmentation == "flip"
            train_set = self._features(encoder, folder, self.train_split, mirrored=flips)
            validation_set = self._features(encoder, folder, self.validation_split, mirrored=False)
        else:
            train_set = training_images(
                self.train_split,
                image_size=config.img_size,
                exif=config.exif,
                augment=config.augmentation,
                seed=config.seed,
                cache=self._cache(self.train_split),
            )
            validation_set = evaluation_images(
                self.validation_split,
                image_size=config.img_size,
                exif=config.exif,
                cache=self._cache(self.validation_split),
            )
        # rows of a mapped file need no decoding
        workers = 0 if config.cache_features else config.workers
        train = TrainingLoader(
            train_set, self.train_batches, workers=workers, world=world, bad_images=bad_images
        )
        validation = EvaluationLoader(
            validation_set,
            batch_size=config.eval_batch_size,
            workers=workers,
            world=world,
            bad_images=bad_images,
        )
        return train, validation

    def _features(
        self, encoder: Encoder, folder: Path, split: Split, *, mirrored: bool
    ) -> FeatureDataset:
        """The features of a split; if `mirrored`, those of mirror images where a flip is drawn."""
        config = self.config
        images = evaluation_images(split, image_size=config.img_size, exif=config.exif)
        cache = self._once_per_machine(
            lambda: cached_features(
                encoder, images, config, folder, self.bad_images, mirrored=mirrored
            )
        )
        return FeatureDataset(split, cache, config.seed if mirrored else None)

    def _cache(self, split: Split) -> ImageCache | None:
        """The resized images of `--cache`."""
        config = self.config
        if config.cache is None:
            return None
        folder = Path(config.cache)
        # those of all ranks of the machine, since the others wait
        workers = machine_cores()
        if config.workers is not None:
            workers = config.workers * rank_info().local_world_size

        return self._once_per_machine(
            lambda: cached_images(
                split.paths,
                config.img_size,
                config.exif,
                folder,
                config.cache_limit,
                workers,
                self.bad_images,
            )
        )

    def _once_per_machine(self, make: Callable[[], T]) -> T:
        """The cache that `make` returns, whose file the first process of each machine writes."""
        made: list[T] = []
        self.world.once_per_machine(lambda: made.append(make()))
        with self.world.raise_on_all_ranks():
            return made[0] if made else make()
        raise AssertionError("raise_on_all_ranks() has raised")


def _require_images_for_each(config: Config, world_size: int) -> None:
    """Every rank must have an image of every micro-batch, except for the last short batch."""
    if config.batch_size < world_size:
        raise UserError(
            f"--batch-size {config.batch_size}: less than one image for each of the {world_size} "
            "processes; raise it, or start fewer (--nproc-per-node, or CUDA_VISIBLE_DEVICES)"
        )
    images = config.batch_size // world_size
    if config.accum_steps > images:
        raise UserError(
            f"--accum-steps {config.accum_steps}: more micro-batches than the {images} images that "
            "a process has of each batch"
        )
