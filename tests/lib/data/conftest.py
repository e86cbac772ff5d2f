"""A split of small images for all tests of reading them."""

import numpy as np
import pytest
from PIL import Image

from lib.data.folder import Split


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
