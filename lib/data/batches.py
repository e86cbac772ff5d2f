"""Which images a batch holds, and on which rank.

Random draws depend on (seed, epoch) alone, not on workers or ranks.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from lib.data.dataset import SampleKey


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

    @property
    def images_per_batch(self) -> int:
        """Images of a full batch on this rank, at most."""
        number = num_micro_batches(self.batch_size, self.accum_steps, self.world_size)
        largest = -(-self.batch_size // number)
        return number * -(-largest // self.world_size)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        keys = [SampleKey(self.epoch, int(row)) for row in order[: self.num_images]]
        for start in range(self.first * self.batch_size, self.num_images, self.batch_size):
            batch = keys[start : start + self.batch_size]
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

    @property
    def images_per_batch(self) -> int:
        """Images of a full batch."""
        return self.batch_size

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for start in self.starts:
            stop = min(start + self.batch_size, self.length)
            yield [SampleKey(0, row) for row in range(start, stop)]
