"""The totals of a batch over all ranks."""

import pytest
import torch

from lib.common.errors import UserError
from lib.data.bad_images import BadImages
from lib.data.loader import (
    TrainingBatches,
    TrainingLoader,
)
from lib.runtime.world import World

CPU = torch.device("cpu")


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
