"""The loaders of training and evaluation: a rank's batches, with their totals over all ranks."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from lib.data.bad_images import BadImages
from lib.data.batches import EvaluationBatches, TrainingBatches, num_micro_batches
from lib.data.cache import ImageCache
from lib.data.dataset import Batch, ImageDataset, evaluation_view, training_view
from lib.data.folder import Split
from lib.data.workers import BatchLoader
from lib.runtime.world import World


class Shard(NamedTuple):
    """This rank's part of training batch `number`, and what all ranks hold of it together: the
    (image, label) entries that count in the loss, the images that could be read, the micro-batches.
    """

    number: int
    batch: Batch
    num_entries: int
    num_images: int
    num_micro_batches: int


class TrainingLoader:
    """Reads this rank's shards of `batches`, the training batches of `split`."""

    def __init__(
        self,
        split: Split,
        batches: TrainingBatches,
        *,
        image_size: int,
        augment: str,
        workers: int | None,
        world: World,
        bad_images: BadImages,
        cache: ImageCache | None = None,
    ) -> None:
        view = partial(training_view, size=image_size, augment=augment, seed=batches.seed)
        self.batches, self.world, self.bad_images = batches, world, bad_images
        self.loader = BatchLoader(
            ImageDataset(split, view, cache),
            batches,
            image_size=image_size,
            workers=workers,
            device=world.device,
            persistent=True,
        )

    def shards(self, epoch: int, first_batch: int = 0) -> Iterator[Shard]:
        """The shards of `epoch` from `first_batch` on.

        Raises `UserError`, on all ranks, for more unreadable images than `bad_images` tolerates.
        """
        self.batches.start(epoch, first_batch)
        for number, batch in enumerate(self.loader, first_batch):
            yield self._reduce_batch_totals(number, batch)

    def _reduce_batch_totals(self, number: int, batch: Batch) -> Shard:
        num_errors, num_entries, num_images = self.world.sum(
            len(batch.errors), int((~batch.ignore.bool()).sum()), int((batch.rows >= 0).sum())
        )
        if num_errors:
            with self.world.raise_on_all_ranks():
                self.bad_images.add(sum(self.world.gather(batch.errors), []))
        micro_batches = num_micro_batches(
            num_images + num_errors, self.batches.accum_steps, self.world.world_size
        )
        return Shard(number, batch, num_entries, num_images, micro_batches)


class EvaluationLoader:
    """Reads this rank's images of `split` in file order, through the eval transform.

    Unreadable images are left out and added to `bad_images`.
    """

    def __init__(
        self,
        split: Split,
        *,
        image_size: int,
        batch_size: int,
        workers: int | None,
        world: World,
        bad_images: BadImages,
        cache: ImageCache | None = None,
    ) -> None:
        dataset = ImageDataset(split, partial(evaluation_view, size=image_size), cache)
        batches = EvaluationBatches(
            len(split), batch_size, rank=world.rank, world_size=world.world_size
        )
        self.bad_images = bad_images
        self.loader = BatchLoader(
            dataset, batches, image_size=image_size, workers=workers, device=world.device
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            if batch.errors:
                self.bad_images.add(batch.errors)
                batch = batch.without_padding()
            if len(batch.rows):
                yield batch
