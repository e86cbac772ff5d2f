"""Images of a split as batches; random draws depend on (seed, epoch, sample index) alone."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lib.errors import UserError
from lib.manifest import Split
from lib.transforms import read_image, resize, to_pixels, train_transform

Key = tuple[int, int]
View = Callable[[Image.Image, Key], Image.Image]


class Batch(NamedTuple):
    """`pixels` uint8 (B, 3, S, S), `targets` float32 (B, C), `ignore` bool (B, C), `index` (B,).

    `errors` lists the images that could not be read, which are not among the rows.
    """

    pixels: Tensor
    targets: Tensor
    ignore: Tensor
    index: Tensor
    errors: list[str]


class ImageDataset(Dataset):
    """The images of a split, asked for by key (epoch, sample index).

    `view` makes the S x S image of a decoded one and its key: `training_view` or
    `evaluation_view` with their settings bound.
    """

    def __init__(self, split: Split, view: View) -> None:
        self.split = split
        self.view = view

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Key):
        index = key[1]
        try:
            image = read_image(self.split.paths[index])
        except UserError as error:
            return str(error)
        pixels = to_pixels(self.view(image, key))
        return pixels, self.split.targets[index], self.split.ignore[index], index


def training_view(image: Image.Image, key: Key, *, size: int, augment: str, seed: int):
    """The train transform, its draws keyed by (seed, epoch, index)."""
    return train_transform(image, size, augment, np.random.default_rng((seed, *key)))


def evaluation_view(image: Image.Image, key: Key, *, size: int):
    """The eval transform, the same for every key."""
    return resize(image, size)


class EpochBatches(Sampler):
    """Batches of keys (epoch, index): shuffled by (seed, epoch) in training, in file order else.

    The last short batch is kept. `set_epoch` chooses the order; keys carry the epoch to the
    workers, which live on between epochs.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int | None = None, limit: int | None = None
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.count = min(length, limit or length)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.arange(self.length)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        keys = [(self.epoch, int(index)) for index in order[: self.count]]
        for start in range(0, self.count, self.batch_size):
            yield keys[start : start + self.batch_size]


def make_loader(
    dataset: ImageDataset, batches: EpochBatches, workers: int | None, device: torch.device
) -> DataLoader:
    """A loader of `Batch`es; `workers` None is one process per core."""
    workers = available_cores() if workers is None else workers
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=min(workers, len(batches)),
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )


def evaluation_loader(
    split: Split, *, size: int, batch_size: int, workers: int | None, device: torch.device
) -> DataLoader:
    """The images of `split` in file order, through the eval transform."""
    dataset = ImageDataset(split, partial(evaluation_view, size=size))
    return make_loader(dataset, EpochBatches(len(split), batch_size), workers, device)


def collate(samples: Sequence) -> Batch:
    """Stack the samples that could be read; collect the messages of those that could not."""
    errors = [sample for sample in samples if isinstance(sample, str)]
    read = [sample for sample in samples if not isinstance(sample, str)]
    if not read:
        empty = torch.empty(0)
        return Batch(empty, empty, empty, empty, errors)
    pixels, targets, ignore, index = zip(*read, strict=True)
    return Batch(
        torch.stack(pixels),
        torch.from_numpy(np.stack(targets)).float(),
        torch.from_numpy(np.stack(ignore)),
        torch.tensor(index),
        errors,
    )


def checked(batch: Batch) -> Batch:
    """The batch itself, or a `UserError` that names its first unreadable image."""
    if batch.errors:
        raise UserError(f"{batch.errors[0]}; mend it or leave it out")
    return batch


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
