"""A split of small images for all tests of reading them."""

import numpy as np
import pytest
import torch
from PIL import Image, features

from lib.data.split import Split
from lib.data.workers import BatchLoader


@pytest.fixture
def split(tmp_path):
    random = np.random.default_rng(0)
    paths = []
    for index in range(7):
        pixels = random.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(pixels).save(paths[-1])
    targets = np.eye(7, 3, dtype=np.uint8)
    return Split.from_dense("train", paths, targets, targets == 2)


def require_format(ending: str) -> None:
    """Skip a test where no decoder for files of this ending is installed."""
    if ending == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if ending == "avif" and "avif" not in features.get_supported():
        pytest.skip("this Pillow reads no AVIF")


def read_batches(dataset, batches, workers, **options):
    """A loader of small images on the CPU."""
    device = torch.device("cpu")
    return BatchLoader(
        dataset,
        batches,
        workers=workers,
        device=device,
        **options,
    )
