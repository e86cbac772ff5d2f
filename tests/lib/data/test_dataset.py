"""Samples and batches: padding, targets, and images that cannot be read."""

import pytest
import torch

from lib.data.dataset import ImageDataset, SampleKey
from lib.data.loader import EvaluationBatches
from tests.lib.data.conftest import read_batches


def test_padding_is_ignored(split):
    dataset = ImageDataset(split, 8, "upright", augment="published", seed=4)
    image, is_padding = dataset[SampleKey(1, 5)], dataset[SampleKey(1, 5, is_padding=True)]
    assert (image[0] == is_padding[0]).all()
    assert (image[3], is_padding[3]) == (5, -1) and is_padding[2].all() and not image[2].all()


def test_batch_holds_targets_and_ignore(split):
    dataset = ImageDataset(split, 8, "upright")
    batch = next(iter(read_batches(dataset, EvaluationBatches(7, 4), 0)))
    assert batch.inputs.dtype == torch.uint8 and batch.inputs.shape == (4, 3, 8, 8)
    assert batch.targets.tolist() == split.targets_of(range(4)).tolist()
    assert batch.ignore.tolist() == split.ignore_of(range(4)).tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_reported_and_replaced(split, workers):
    with open(split.paths[4], "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n but no picture")
    dataset = ImageDataset(split, 8, "upright")
    loader = read_batches(dataset, EvaluationBatches(7, 4), workers)
    whole, batch = list(loader)
    (error,) = batch.errors
    assert error.row == 4 and error.reason.startswith(f"{split.paths[4]}: ") and not whole.errors
    assert batch.rows.tolist() == [-1, 5, 6] and batch.ignore[0].all()
    assert torch.equal(batch.inputs[0], batch.inputs[1])
    kept = batch.without_padding()
    assert kept.rows.tolist() == [5, 6] and torch.equal(kept.inputs, batch.inputs[1:])
    # the rank that has the image itself reports it, not one that has it as padding
    assert dataset[SampleKey(1, 4)].error and not dataset[SampleKey(1, 4, is_padding=True)].error
