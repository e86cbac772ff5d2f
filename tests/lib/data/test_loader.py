"""Which images a batch holds, in which order, on which rank, and its totals over all ranks."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.data.bad_images import BadImages
from lib.data.dataset import ImageDataset, SampleKey
from lib.data.loader import (
    EvaluationBatches,
    TrainingBatches,
    TrainingLoader,
    num_micro_batches,
)
from lib.runtime.world import World
from tests.helpers.refusals import refused

CPU = torch.device("cpu")


def test_evaluation_keeps_the_short_batch_and_the_file_order():
    batches = EvaluationBatches(7, 3)
    assert [[key.row for key in keys] for keys in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(batches) == 3


def test_training_shuffles_and_keeps_the_short_batch():
    limited = TrainingBatches(7, 3, seed=1, limit=4)
    assert len(limited) == 2 and sum(map(len, limited)) == 4
    shuffled = [key.row for keys in TrainingBatches(7, 3, seed=1) for key in keys]
    assert sorted(shuffled) == list(range(7)) and shuffled != list(range(7))


@given(length=st.integers(1, 40), batch_size=st.integers(1, 9), epoch=st.integers(0, 3))
def test_the_order_is_a_permutation_by_seed_and_epoch(length, batch_size, epoch):
    """It must never change: a run that is resumed goes on in it."""
    batches = TrainingBatches(length, batch_size, seed=5)
    batches.start(epoch)
    expected = np.random.default_rng((5, epoch)).permutation(length).tolist()
    assert [key for keys in batches for key in keys] == [SampleKey(epoch, row) for row in expected]


def test_an_epoch_resumes_at_a_batch():
    batches = TrainingBatches(7, 2, seed=1)
    batches.start(3)
    whole = list(batches)
    batches.start(3, batch=2)
    assert list(batches) == whole[2:]


@given(
    length=st.integers(1, 40),
    batch_size=st.integers(1, 24),
    accum_steps=st.integers(1, 5),
    size=st.integers(1, 6),
    epoch=st.integers(0, 3),
)
def test_ranks_divide_each_batch_without_loss_or_repetition(
    length, batch_size, accum_steps, size, epoch
):
    ranks = []
    for rank in range(size):
        batches = TrainingBatches(
            length, batch_size, seed=5, accum_steps=accum_steps, rank=rank, world_size=size
        )
        batches.start(epoch)
        ranks.append(list(batches))
    alone = TrainingBatches(length, batch_size, seed=5)
    alone.start(epoch)
    for number, keys in enumerate(alone):
        shards = [rank[number] for rank in ranks]
        counted = [key for shard in shards for key in shard if not key.is_padding]
        assert sorted(counted) == sorted(keys)
        number = num_micro_batches(len(keys), accum_steps, size)
        split = [torch.tensor_split(torch.arange(len(shard)), number) for shard in shards]
        assert all(len(part) for shard in split for part in shard)
        # micro-batches are parts of the batch, divided as evenly as possible
        for time in range(number):
            present = [
                shards[rank][place] for rank in range(size) for place in split[rank][time].tolist()
            ]
            sizes = [len(split[rank][time]) for rank in range(size)]
            assert max(sizes) - min(sizes) <= 1
            real = {key.row for key in present if not key.is_padding}
            assert {key.row for key in present if key.is_padding} <= real


@given(length=st.integers(0, 40), batch_size=st.integers(1, 9), size=st.integers(1, 6))
def test_ranks_divide_an_evaluation(length, batch_size, size):
    alone = list(EvaluationBatches(length, batch_size))
    shared = [EvaluationBatches(length, batch_size, rank=r, world_size=size) for r in range(size)]
    assert [len(batches) for batches in shared] == [len(list(batches)) for batches in shared]
    assert sorted(keys for batches in shared for keys in batches) == alone


def training_loader(split, bad_images, accum_steps=1):
    batches = TrainingBatches(len(split), 3, seed=4, accum_steps=accum_steps)
    dataset = ImageDataset(split, 8, "upright", augment="none", seed=4)
    return TrainingLoader(dataset, batches, workers=0, world=World(CPU), bad_images=bad_images)


def test_shards_know_the_totals_of_their_batch(split):
    shards = list(training_loader(split, BadImages(), accum_steps=3).shards(2))
    assert [shard.number for shard in shards] == [0, 1, 2]
    assert [shard.num_images for shard in shards] == [3, 3, 1]
    assert [shard.num_micro_batches for shard in shards] == [3, 3, 1]
    for shard in shards:
        assert shard.num_entries == int((~shard.batch.ignore).sum())
    rest = list(training_loader(split, BadImages()).shards(2, first_batch=1))
    assert [shard.number for shard in rest] == [1, 2]
    assert rest[0].batch.rows.tolist() == shards[1].batch.rows.tolist()


def test_shards_leave_unreadable_images_out(split):
    with open(split.paths[4], "wb") as file:
        file.write(b"no image")
    bad_images = BadImages(1)
    shards = list(training_loader(split, bad_images).shards(0))
    assert list(bad_images.reasons.values()) == [4]
    (short,) = [shard for shard in shards if -1 in shard.batch.rows]
    assert short.num_images == 2 and short.num_entries == int((~short.batch.ignore).sum())
    with refused(split.paths[4], "--max-bad-images"):
        list(training_loader(split, BadImages()).shards(0))
