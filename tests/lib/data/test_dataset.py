"""Batches: their order, their random draws, and images that cannot be read."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib.common.errors import UserError
from lib.data.bad_images import BadImages
from lib.data.dataset import ImageDataset, SampleKey, evaluation_view, training_view
from lib.data.folder import Split
from lib.data.loader import (
    EvaluationBatches,
    TrainingBatches,
    TrainingLoader,
    make_loader,
    num_micro_batches,
)
from lib.data.transforms import Normalizer, read_image, resize, train_transform
from lib.runtime.world import World

CPU = torch.device("cpu")


@pytest.fixture
def split(tmp_path):
    random = np.random.default_rng(0)
    paths = []
    for index in range(7):
        pixels = random.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(pixels).save(paths[-1])
    targets = np.eye(7, 3, dtype=np.uint8)
    return Split("train", paths, targets, targets == 2)


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


def test_padding_is_ignored(split):
    dataset = ImageDataset(split, partial(training_view, size=8, augment="published", seed=4))
    image, is_padding = dataset[SampleKey(1, 5)], dataset[SampleKey(1, 5, is_padding=True)]
    assert torch.equal(image[0], is_padding[0])
    assert (image[3], is_padding[3]) == (5, -1) and is_padding[2].all() and not image[2].all()


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


def test_batch_holds_targets_and_ignore(split):
    dataset = ImageDataset(split, partial(evaluation_view, size=8))
    batch = next(iter(make_loader(dataset, EvaluationBatches(7, 4), 0, torch.device("cpu"))))
    assert batch.pixels.dtype == torch.uint8 and batch.pixels.shape == (4, 3, 8, 8)
    assert batch.targets.tolist() == split.targets[:4].tolist()
    assert batch.ignore.tolist() == split.ignore[:4].tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_reported_and_replaced(split, workers):
    with open(split.paths[4], "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n but no picture")
    dataset = ImageDataset(split, partial(evaluation_view, size=8))
    loader = make_loader(dataset, EvaluationBatches(7, 4), workers, torch.device("cpu"))
    whole, batch = list(loader)
    (error,) = batch.errors
    assert (
        error.row == 4
        and error.reason.startswith(f"{split.paths[4]}: not a readable image")
        and not whole.errors
    )
    assert batch.rows.tolist() == [-1, 5, 6] and batch.ignore[0].all()
    assert torch.equal(batch.pixels[0], batch.pixels[1])
    kept = batch.without_padding()
    assert kept.rows.tolist() == [5, 6] and torch.equal(kept.pixels, batch.pixels[1:])


def test_padding_reports_no_error(split):
    """The rank that has the image itself does."""
    with open(split.paths[4], "wb") as file:
        file.write(b"no picture")
    dataset = ImageDataset(split, partial(training_view, size=8, augment="published", seed=4))
    assert dataset[SampleKey(1, 4)].error and not dataset[SampleKey(1, 4, is_padding=True)].error


def test_truncated_images_are_refused(split, tmp_path):
    whole = open(split.paths[0], "rb").read()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut.png: not a readable image"):
        read_image(tmp_path / "cut.png")


def test_the_rotation_that_a_camera_notes_is_ignored(tmp_path):
    """As published: the pixels are read as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (30, 20)


def test_sixteen_bit_grey_is_scaled(tmp_path):
    grey = np.linspace(0, 65535, 16, dtype=np.uint16).reshape(4, 4)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    found = np.asarray(read_image(tmp_path / "deep.png"))
    assert found.shape == (4, 4, 3)
    np.testing.assert_array_equal(found[..., 0], grey // 257)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(UserError, match="float.tiff: floating-point pixels"):
        read_image(tmp_path / "float.tiff")


def test_eval_transform_is_the_resize_alone():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 33, 3), dtype=np.uint8))
    expected = image.resize((12, 12), Image.Resampling.BILINEAR)
    assert resize(image, 12).tobytes() == expected.tobytes()


def test_augment_levels():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    plain, mirrored = resize(image, 12).tobytes(), None
    mirrored = resize(image, 12).transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    results = {
        level: [
            train_transform(image, 12, level, np.random.default_rng(seed)).tobytes()
            for seed in range(200)
        ]
        for level in ("none", "flip", "published")
    }
    assert set(results["none"]) == {plain}
    assert set(results["flip"]) == {plain, mirrored}
    assert 70 < results["flip"].count(mirrored) < 130
    assert len(set(results["published"])) > 190


def test_normalizer_scales_and_shifts_per_channel():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    found = Normalizer((0.5, 0.2, 0.0), (0.5, 1.0, 2.0), torch.device("cpu"))(pixels)
    torch.testing.assert_close(found.flatten(), torch.tensor([-1.0, 0.0, 0.5]))


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
