"""The loaders of a run: of images, or with `--cache-features` of the backbone's features."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lib.common.rank_info import rank_info
from lib.config import Config
from lib.data.bad_images import BadImages
from lib.data.cache import ImageCache, cached_images
from lib.data.dataset import SplitDataset, evaluation_images, training_images
from lib.data.folder import Split
from lib.data.loader import EvaluationLoader, TrainingBatches, TrainingLoader
from lib.data.workers import machine_cores
from lib.experiment.features import Encoder, FeatureDataset, cached_features
from lib.runtime.world import World
from models.classifier import Classifier

T = TypeVar("T")


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
    make = _cached_features if config.cache_features else _images
    train_set, validation_set = make(config, world, model, train, validation, bad_images)
    # rows of a mapped file need no decoding
    workers = 0 if config.cache_features else config.workers
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


def _images(
    config: Config,
    world: World,
    model: Classifier,
    train: Split,
    validation: Split,
    bad_images: BadImages,
) -> tuple[SplitDataset, SplitDataset]:
    """The images of both splits, resized once with `--cache`."""

    def cache(split: Split) -> ImageCache | None:
        if config.cache is None:
            return None
        folder = Path(config.cache)
        workers = machine_cores()  # of all ranks of the machine, since the others wait
        if config.workers is not None:
            workers = config.workers * rank_info().local_world_size
        size, exif, limit = config.img_size, config.exif, config.cache_limit
        return _once_per_machine(
            world,
            lambda: cached_images(split.paths, size, exif, folder, limit, workers, bad_images),
        )

    train_set = training_images(
        train,
        image_size=config.img_size,
        exif=config.exif,
        augment=config.augmentation,
        seed=config.seed,
        cache=cache(train),
    )
    validation_set = evaluation_images(
        validation, image_size=config.img_size, exif=config.exif, cache=cache(validation)
    )
    return train_set, validation_set


def _cached_features(
    config: Config,
    world: World,
    model: Classifier,
    train: Split,
    validation: Split,
    bad_images: BadImages,
) -> tuple[SplitDataset, SplitDataset]:
    """The features of both splits; where a flip is drawn in training, those of mirror images."""
    encoder, folder = Encoder(model, config, world.device), Path(str(config.cache_features))

    def features(split: Split, seed: int | None) -> FeatureDataset:
        images = evaluation_images(split, image_size=config.img_size, exif=config.exif)
        mirrored = seed is not None
        cache = _once_per_machine(
            world,
            lambda: cached_features(encoder, images, config, folder, bad_images, mirrored=mirrored),
        )
        return FeatureDataset(split, cache, seed)

    flips = config.augmentation == "flip"
    return features(train, config.seed if flips else None), features(validation, None)


def _once_per_machine(world: World, make: Callable[[], T]) -> T:
    """The cache that `make` returns, whose file the first process of each machine writes."""
    made: list[T] = []
    world.once_per_machine(lambda: made.append(make()))
    with world.raise_on_all_ranks():
        return made[0] if made else make()
    raise AssertionError("raise_on_all_ranks() has raised")
