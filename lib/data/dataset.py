"""Images of a split as batches; random draws depend on (seed, epoch, sample index) alone."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lib.common.errors import UserError
from lib.common.rank_info import rank_info
from lib.data.bad_images import Unreadable
from lib.data.cache import ImageCache
from lib.data.folder import Split
from lib.data.transforms import read_image, resize, to_pixels, train_transform
from lib.runtime.world import World

PATIENCE = 10  # seconds of a worker that was told to end


class SampleKey(NamedTuple):
    """An image of an epoch. A stand-in fills a process's share that has no image: its targets take
    no part in the loss."""

    epoch: int
    index: int
    is_padding: bool = False


View = Callable[[Image.Image, SampleKey], Image.Image]


class Batch(NamedTuple):
    """`pixels` uint8 (B, 3, S, S), `targets` float32 (B, C), `ignore` bool (B, C), `index` (B,).

    `index` is -1 for a stand-in, which takes no part. `errors` names the images that could not be
    read, in whose places stand-ins are among the rows.
    """

    pixels: Tensor
    targets: Tensor
    ignore: Tensor
    index: Tensor
    errors: list[Unreadable]

    def parts(self, count: int) -> "list[Batch]":
        """`count` batches of about as many rows, the earlier ones larger."""
        tensors = (torch.tensor_split(tensor, count) for tensor in self[:4])
        return [Batch(*part, self.errors) for part in zip(*tensors, strict=True)]

    def without_padding(self) -> "Batch":
        """The rows that are images."""
        kept = self.index >= 0
        return Batch(*(tensor[kept] for tensor in self[:4]), self.errors)


class LoadedSample(NamedTuple):
    """A row of a `Batch`, and why its image could not be read."""

    pixels: Tensor
    targets: np.ndarray
    ignore: np.ndarray
    index: int
    error: Unreadable | None = None


class ImageDataset(Dataset):
    """The images of a split, asked for by key (epoch, sample index).

    `view` makes the S x S image of a decoded one and its key: `training_view` or
    `evaluation_view` with their settings bound. Images of a `cache` are S x S already.
    """

    def __init__(self, split: Split, view: View, cache: ImageCache | None = None) -> None:
        self.split = split
        self.view = view
        self.cache = cache

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: SampleKey) -> LoadedSample:
        index, error = key.index, None
        try:
            image = self.cache.image(index) if self.cache else read_image(self.split.paths[index])
        except UserError as raised:
            image, error = Image.new("RGB", (1, 1)), Unreadable(index, str(raised))
        pixels, targets = to_pixels(self.view(image, key)), self.split.targets[index]
        ignore = self.split.ignore[index]
        if key.is_padding:  # whoever has the image itself will say what is wrong with it
            return LoadedSample(pixels, targets, np.ones_like(ignore), -1)
        if error:
            return LoadedSample(pixels, targets, np.ones_like(ignore), -1, error)
        return LoadedSample(pixels, targets, ignore, index)


def training_view(image: Image.Image, key: SampleKey, *, size: int, augment: str, seed: int):
    """The train transform, its draws keyed by (seed, epoch, index)."""
    return train_transform(image, size, augment, np.random.default_rng((seed, *key[:2])))


def evaluation_view(image: Image.Image, key: SampleKey, *, size: int):
    """The eval transform, the same for every key."""
    return resize(image, size)


class TrainingBatches(Sampler):
    """This process's share of each batch of keys, shuffled by (seed, epoch).

    The last short batch is kept. A batch is split into `accum_steps` parts, in time, and each part
    among `size` processes; where a part has fewer images than there are processes, stand-ins make
    up for it. `start` chooses the epoch, and the batch to begin with; keys carry the epoch to the
    workers, which live on between epochs.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        limit: int | None = None,
        accum_steps: int = 1,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.count = min(length, limit or length)
        self.accum_steps, self.rank, self.size = accum_steps, rank, size
        self.epoch = self.first = 0

    def start(self, epoch: int, batch: int = 0) -> None:
        self.epoch, self.first = epoch, batch

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        keys = [SampleKey(self.epoch, int(index)) for index in order[: self.count]]
        for start in range(self.first * self.batch_size, self.count, self.batch_size):
            batch = keys[start : start + self.batch_size]
            parts = num_micro_batches(len(batch), self.accum_steps, self.size)
            yield [key for part in range(parts) for key in self._share(batch[part::parts])]

    def _share(self, part: list[SampleKey]) -> list[SampleKey]:
        is_padding = part[self.rank % len(part)]._replace(is_padding=True)
        return part[self.rank :: self.size] or [is_padding]


def num_micro_batches(images: int, accum_steps: int, size: int) -> int:
    """Parts in time of a batch of `images`: `accum_steps`, or fewer for a short last batch.

    Each process's share splits into as many equal parts, the earlier ones larger by one.
    """
    return min(accum_steps, -(-images // size))


class EvaluationBatches(Sampler):
    """Batches of keys in file order, of which each process takes its share, in turn."""

    def __init__(self, length: int, batch_size: int, *, rank: int = 0, size: int = 1) -> None:
        self.starts = range(0, length, batch_size)[rank::size]
        self.length, self.batch_size = length, batch_size

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for start in self.starts:
            stop = min(start + self.batch_size, self.length)
            yield [SampleKey(0, index) for index in range(start, stop)]


def make_loader(
    dataset: ImageDataset,
    batches: TrainingBatches | EvaluationBatches,
    workers: int | None,
    device: torch.device,
) -> DataLoader:
    """A loader of `Batch`es; `workers` None is one process per core."""
    workers = min(available_cores() if workers is None else workers, len(batches))
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=ignore_signals_in_worker,
        generator=torch.Generator(),  # or each pass would draw from that of the dropout
    )


def evaluation_loader(
    split: Split,
    *,
    image_size: int,
    batch_size: int,
    workers: int | None,
    world: World,
    cache: ImageCache | None = None,
) -> DataLoader:
    """This process's images of `split` in file order, through the eval transform."""
    dataset = ImageDataset(split, partial(evaluation_view, size=image_size), cache)
    batches = EvaluationBatches(len(split), batch_size, rank=world.rank, size=world.world_size)
    return make_loader(dataset, batches, workers, world.device)


def collate(samples: Sequence[LoadedSample]) -> Batch:
    """Stack samples. Where one could not be read, the pixels of another stand in, so that batch
    statistics are those of pictures."""
    pixels, targets, ignore, index, errors = zip(*samples, strict=True)
    read = [one for one, error in zip(pixels, errors, strict=True) if not error] or pixels
    pixels = [read[row % len(read)] if errors[row] else one for row, one in enumerate(pixels)]
    return Batch(
        torch.stack(pixels),
        torch.from_numpy(np.stack(targets)).float(),
        torch.from_numpy(np.stack(ignore)),
        torch.tensor(index),
        [error for error in errors if error],
    )


def ignore_signals_in_worker(worker: int) -> None:
    """A signal to the whole process group must not take the workers from a step being finished.

    The parent may end them with SIGTERM too, and waits for it: so they end some seconds later.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(PATIENCE))
    signal.signal(signal.SIGALRM, lambda signum, frame: os._exit(0))


def available_cores() -> int:
    """Cores that this process may use, where those of one machine share them."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // rank_info().local_world_size)
