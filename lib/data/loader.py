"""Which images a batch holds, on which rank, and the loaders that read them.

Random draws depend on (seed, epoch) alone, not on workers or ranks.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from lib.data.bad_images import BadImages
from lib.data.dataset import SampleKey, SplitDataset
from lib.data.workers import Batch, BatchLoader
from lib.runtime.world import World


class TrainingBatches(Sampler[list[SampleKey]]):
    """This rank's shard of each batch of keys, shuffled by (seed, epoch).

    The last short batch is kept. A batch is divided into `accum_steps` micro-batches, and each of
    them among `world_size` ranks; padding samples fill a micro-batch with fewer images than ranks.
    `start` chooses the epoch and its first batch; keys carry the epoch to the workers, which live
    on between epochs.
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
        world_size: int = 1,
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.num_images = min(length, limit or length)
        self.accum_steps, self.rank, self.world_size = accum_steps, rank, world_size
        self.epoch = self.first = 0

    def start(self, epoch: int, batch: int = 0) -> None:
        """Let the next iteration begin with `batch` of `epoch`."""
        self.epoch, self.first = epoch, batch

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for start in range(self.first * self.batch_size, self.num_images, self.batch_size):
            rows = order[start : min(start + self.batch_size, self.num_images)].tolist()
            batch = [SampleKey(self.epoch, row) for row in rows]
            number = num_micro_batches(len(batch), self.accum_steps, self.world_size)
            yield [key for first in range(number) for key in self._shard(batch[first::number])]

    def _shard(self, micro_batch: list[SampleKey]) -> list[SampleKey]:
        padding = micro_batch[self.rank % len(micro_batch)]._replace(is_padding=True)
        return micro_batch[self.rank :: self.world_size] or [padding]


def num_micro_batches(images: int, accum_steps: int, world_size: int) -> int:
    """Micro-batches of a batch of `images`: `accum_steps`, or fewer for a short last batch."""
    return min(accum_steps, -(-images // world_size))


class EvaluationBatches(Sampler[list[SampleKey]]):
    """Batches of keys in file order; the ranks take them in turn."""

    def __init__(self, length: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.starts = range(0, length, batch_size)[rank::world_size]
        self.length, self.batch_size = length, batch_size

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for start in self.starts:
            stop = min(start + self.batch_size, self.length)
            yield [SampleKey(0, row) for row in range(start, stop)]


class Shard(NamedTuple):
    """This rank's part of training batch `number`, and totals over all ranks: the (image, label)
    entries that count in the loss, the images that could be read, the micro-batches."""

    number: int
    batch: Batch
    num_entries: int
    num_images: int
    num_micro_batches: int


class TrainingLoader:
    """Reads this rank's shards of `batches`, the training batches of `dataset`."""

    def __init__(
        self,
        dataset: SplitDataset,
        batches: TrainingBatches,
        *,
        workers: int | None,
        world: World,
        bad_images: BadImages,
    ) -> None:
        self.split, self.batches = dataset.split, batches
        self.world, self.bad_images = world, bad_images
        self.loader = BatchLoader(
            dataset, batches, workers=workers, device=world.device, persistent=True
        )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.batches)

    def shards(self, epoch: int, first_batch: int = 0) -> Iterator[Shard]:
        """The shards of `epoch` from `first_batch` on.

        Raises `UserError`, on all ranks, for more unreadable images than `bad_images` tolerates.
        """
        self.batches.start(epoch, first_batch)
        for number, batch in enumerate(self.loader, first_batch):
            yield self._reduce_batch_totals(number, batch)

    def _reduce_batch_totals(self, number: int, batch: Batch) -> Shard:
        known = batch.ignore.numel() - int(batch.ignore.sum())
        num_errors, num_entries, num_images = self.world.sum(
            len(batch.errors), known, int((batch.rows >= 0).sum())
        )
        if num_errors:
            with self.world.raise_on_all_ranks():
                self.bad_images.add(sum(self.world.gather(batch.errors), []))
        micro_batches = num_micro_batches(
            num_images + num_errors, self.batches.accum_steps, self.world.world_size
        )
        return Shard(number, batch, num_entries, num_images, micro_batches)


class EvaluationLoader:
    """Reads this rank's images of `dataset` in file order.

    Unreadable images are left out and added to `bad_images`.
    """

    def __init__(
        self,
        dataset: SplitDataset,
        *,
        batch_size: int,
        workers: int | None,
        world: World,
        bad_images: BadImages,
    ) -> None:
        batches = EvaluationBatches(
            len(dataset), batch_size, rank=world.rank, world_size=world.world_size
        )
        self.split, self.bad_images = dataset.split, bad_images
        self.loader = BatchLoader(dataset, batches, workers=workers, device=world.device)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            if batch.errors:
                self.bad_images.add(batch.errors)
                batch = batch.without_padding()
            if len(batch.rows):
                yield batch
