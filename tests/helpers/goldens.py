"""Reads the golden values from `$GOLDEN_DIR` and makes the weights and inputs they stand for."""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR") or Path(__file__).parents[1] / "golden")
COMPUTED = ("pe", "attn_mask", "relative_position_index")


def arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of `<name>.npz`."""
    with np.load(GOLDEN_DIR / f"{name}.npz") as file:
        return dict(file)


def shapes(name: str) -> dict:
    """The names and shapes of `<name>.json`."""
    return json.loads((GOLDEN_DIR / f"{name}.json").read_text())


def published_state(names: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    """The state dict that the goldens' README defines by published name and seed."""
    return {
        name: torch.from_numpy(np.asarray(_values(name, shape, seed)))
        for name, shape in names.items()
        if name.split(".")[-1] not in COMPUTED
    }


def label_embeddings(num_labels: int, text_size: int, seed: int) -> Tensor:
    """The fixed label embeddings (C, T)."""
    random = np.random.RandomState(seed + 2000)
    return torch.from_numpy(random.standard_normal((num_labels, text_size)).astype(np.float32))


def image_batch(size: int, seed: int) -> Tensor:
    """The input images (1, 3, S, S)."""
    random = np.random.RandomState(seed + 1000)
    return torch.from_numpy(random.standard_normal((1, 3, size, size)).astype(np.float32))


def _values(name: str, shape: list[int], seed: int) -> np.ndarray:
    last = name.split(".")[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    key = (zlib.crc32(name.encode()) + 7919 * seed) % 2**32
    normal = np.random.RandomState(key).standard_normal(shape)
    if last == "running_var":
        values = 0.5 + np.abs(normal)
    elif last in ("running_mean", "pos_embed", "cls_token", "relative_position_bias_table"):
        values = 0.1 * normal
    elif last == "embeddings":
        values = 0.1 * normal
    elif last in ("bias", "in_proj_bias"):
        values = 0.02 * normal
    elif len(shape) == 1:
        values = 1 + 0.1 * normal
    else:
        normal /= np.sqrt(np.prod(shape[1:]))  # in place: some have millions of numbers
        values = normal
    return np.asarray(values, np.float32)
