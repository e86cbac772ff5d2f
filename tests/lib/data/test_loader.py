"""Which images a batch holds, in which order, on which rank; and how the loaders end."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.common.errors import UserError
from lib.data.bad_images import BadImages
from lib.data.dataset import ImageDataset, SampleKey, evaluation_view, training_view
from lib.data.loader import (
    EvaluationBatches,
    TrainingBatches,
    TrainingLoader,
    make_loader,
    num_micro_batches,
)
from lib.runtime.world import World

CPU = torch.device("cpu")


def load(split, workers, epoch, seed=4):
    view = partial(training_view, size=16, augment="published", seed=seed)
    batches = TrainingBatches(len(split), 3, seed=seed)
    batches.start(epoch)
    loader = make_loader(ImageDataset(split, view), batches, workers, torch.device("cpu"))
    found = list(loader)
    rows = torch.cat([batch.rows for batch in found])
    pixels = torch.cat([batch.pixels for batch in found])
    return rows, pixels


def test_draws_depend_on_seed_epoch_and_index_alone(split):
    index, pixels = load(split, 0, 1)
    other_index, other_pixels = load(split, 2, 1)
    assert torch.equal(index, other_index) and torch.equal(pixels, other_pixels)
    single = ImageDataset(split, partial(training_view, size=16, augment="published", seed=4))
    place = index.tolist().index(5)
    assert torch.equal(single[SampleKey(1, 5)][0], pixels[place])
    for epoch, seed in ((2, 4), (1, 5)):
        changed_index, changed_pixels = load(split, 0, epoch, seed)
        assert not torch.equal(index, changed_index)
        order = [changed_index.tolist().index(i) for i in index.tolist()]
        assert not torch.equal(pixels, changed_pixels[order])


def test_persistent_workers_follow_the_epoch(split):
    view = partial(training_view, size=16, augment="published", seed=4)
    batches = TrainingBatches(len(split), 3, seed=4)
    loader = make_loader(ImageDataset(split, view), batches, 2, torch.device("cpu"))
    for epoch in (0, 1):
        batches.start(epoch)
        pixels = torch.cat([batch.pixels for batch in loader])
        assert torch.equal(pixels, load(split, 0, epoch)[1])


def test_evaluation_keeps_the_short_batch_and_the_file_order():
    batches = EvaluationBatches(7, 3)
    assert [[key.row for key in keys] for keys in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(batches) == 3


def test_training_shuffles_and_keeps_the_short_batch():
    limited = TrainingBatches(7, 3, seed=1, limit=4)
    assert len(limited) == 2 and sum(map(len, limited)) == 4
    shuffled = [key.row for keys in TrainingBatches(7, 3, seed=1) for key in keys]
    assert sorted(shuffled) == list(range(7)) and shuffled != list(range(7))


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


def test_a_process_without_images_has_no_batches(split):
    dataset = ImageDataset(split, partial(evaluation_view, size=8))
    batches = EvaluationBatches(7, 4, rank=2, world_size=3)
    assert list(make_loader(dataset, batches, 2, torch.device("cpu"))) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_draws_no_random_numbers_of_the_run(split, workers):
    dataset = ImageDataset(split, partial(evaluation_view, size=8))
    before = torch.get_rng_state()
    list(make_loader(dataset, EvaluationBatches(7, 4), workers, torch.device("cpu")))
    assert torch.equal(torch.get_rng_state(), before)


def test_terminated_workers_exit_after_a_while(split, monkeypatch):
    """A parent that leaves in the middle of a pass terminates them, and waits."""
    monkeypatch.setattr("lib.data.loader.WORKER_GRACE_SECONDS", 1)
    dataset = ImageDataset(split, partial(evaluation_view, size=8))
    batches = iter(make_loader(dataset, EvaluationBatches(7, 1), 1, torch.device("cpu")))
    next(batches)
    (worker,) = batches._workers
    worker.terminate()
    worker.join(0.3)
    assert worker.is_alive()
    worker.join(10)
    assert not worker.is_alive()


def training_loader(split, bad_images, accum_steps=1):
    batches = TrainingBatches(len(split), 3, seed=4, accum_steps=accum_steps)
    options = {"image_size": 8, "augment": "none", "workers": 0, "world": World(CPU)}
    return TrainingLoader(split, batches, bad_images=bad_images, **options)


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
    with pytest.raises(UserError, match="4.png: not a readable image.*; fix or remove it"):
        list(training_loader(split, BadImages()).shards(0))
