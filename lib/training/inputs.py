"""What a run reads: its labels and splits, and the batches of one of its processes."""

from functools import partial
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from lib.common.errors import UserError
from lib.common.rank_info import rank_info
from lib.config import Config
from lib.data.bad_images import BadImages
from lib.data.cache import ImageCache, cached_images
from lib.data.dataset import (
    ImageDataset,
    TrainingBatches,
    available_cores,
    evaluation_loader,
    make_loader,
    training_view,
)
from lib.data.folder import DataFolder, Split
from lib.runtime.world import World


class Inputs:
    """Reads and checks the data folder of `config`; `loaders` then starts to read pictures."""

    def __init__(self, config: Config, world: World, bad_images: BadImages | None = None) -> None:
        self.config, self.world = config, world
        self.bad_images = bad_images or BadImages(config.max_bad_images)
        share = _share_of_a_batch(config, world.world_size)
        if share % config.accum_steps:
            raise UserError(
                f"--accum-steps {config.accum_steps}: does not divide the {share} images that a "
                "process has of each batch"
            )
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
            size=world.world_size,
        )

    def label_embeddings(self) -> np.ndarray | None:
        """The vectors of `--embed-type`; None for learned ones."""
        kind = self.config.embed_type
        return None if kind == "random" else self.data.label_embeddings(kind)

    def loaders(self) -> tuple[DataLoader, DataLoader]:
        """This process's batches of training and validation."""
        config = self.config
        view = partial(
            training_view, size=config.img_size, augment=config.augment, seed=config.seed
        )
        train = make_loader(
            ImageDataset(self.train_split, view, self._cache(self.train_split)),
            self.train_batches,
            config.workers,
            self.world.device,
        )
        validation = evaluation_loader(
            self.validation_split,
            image_size=config.img_size,
            batch_size=config.eval_batch_size,
            workers=config.workers,
            world=self.world,
            cache=self._cache(self.validation_split),
        )
        return train, validation

    def _cache(self, split: Split) -> ImageCache | None:
        """The resized images of `--cache`, made by the first process of each machine."""
        config = self.config
        if config.cache is None:
            return None

        def make() -> ImageCache:
            workers = available_cores() if config.workers is None else config.workers
            folder = Path(config.cache)
            return cached_images(
                split.paths,
                config.img_size,
                folder,
                config.cache_limit,
                workers,
                self.bad_images.meet,
            )

        with self.world.raise_on_all_ranks():
            if rank_info().local_rank == 0:
                make()
        with self.world.raise_on_all_ranks():
            return make()


def _share_of_a_batch(config: Config, processes: int) -> int:
    """Images that each process has of a whole batch."""
    if config.batch_size % processes:
        raise UserError(
            f"--batch-size {config.batch_size}: {processes} processes cannot share it evenly; "
            f"choose a multiple of {processes}, or start fewer (--nproc-per-node, or "
            "CUDA_VISIBLE_DEVICES)"
        )
    return config.batch_size // processes
