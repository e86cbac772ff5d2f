"""The loaders of a run: of images, or with `--cache-features` of the backbone's features."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.common.rank_info import rank_info
from lib.config import Config
from lib.data.bad_images import BadImages
from lib.data.cache import cached_images
from lib.data.dataset import ImageDataset, SplitDataset
from lib.data.loader import EvaluationLoader, TrainingBatches, TrainingLoader
from lib.data.split import Split
from lib.experiment.features import Encoder, FeatureDataset, cached_features
from lib.runtime.cores import machine_cores
from lib.runtime.world import World
from models.classifier import Classifier


def make_loaders(
    config: Config,
    world: World,
    model: Classifier,
    batches: TrainingBatches,
    train: Split,
    validation: Split,
    bad_images: BadImages,
) -> tuple[TrainingLoader, EvaluationLoader]:
    """This rank's loaders for training, in `batches`, and for validation; writes their caches."""
    size, exif, workers = config.img_size, config.exif, config.workers
    train_set: SplitDataset
    validation_set: SplitDataset
    if config.cache_features:
        workers = 0  # rows of a mapped file need no decoding
        encoder, folder = Encoder(model, config, world.device), Path(config.cache_features)

        def features(split: Split, seed: int | None) -> FeatureDataset:
            images, mirrored = ImageDataset(split, size, exif), seed is not None
            cache = world.once_per_machine(
                lambda: cached_features(
                    encoder, images, config, folder, bad_images, mirrored=mirrored
                )
            )
            return FeatureDataset(split, cache, seed)

        train_set = features(train, config.seed if config.augmentation == "flip" else None)
        validation_set = features(validation, None)
    else:

        def cached_row(split: Split) -> Callable[[int], np.ndarray] | None:
            if config.cache is None:
                return None
            # the processes of all ranks of the machine, since the others wait
            processes = machine_cores()
            if config.workers is not None:
                processes = config.workers * rank_info().local_world_size
            folder, limit = Path(config.cache), config.cache_limit
            return world.once_per_machine(
                lambda: cached_images(split.paths, size, exif, folder, limit, processes, bad_images)
            ).row

        train_set = ImageDataset(
            train,
            size,
            exif,
            augment=config.augmentation,
            seed=config.seed,
            cached_row=cached_row(train),
        )
        validation_set = ImageDataset(validation, size, exif, cached_row=cached_row(validation))
    return (
        TrainingLoader(train_set, batches, workers=workers, world=world, bad_images=bad_images),
        EvaluationLoader(
            validation_set,
            batch_size=config.eval_batch_size,
            workers=workers,
            world=world,
            bad_images=bad_images,
        ),
    )
