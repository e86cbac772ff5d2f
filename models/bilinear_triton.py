"""The scores of bilinear attention on a GPU: one pass over the tanh, which never leaves registers.

Shapes: R = B * N rows of patches, C labels, N patches, A attention size. `TRITON_INTERPRET=1` runs
these kernels on the CPU.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ROW_CHUNKS = 32  # partial sums of the labels' gradient, which are added in a fixed order
# rows, labels and attention channels of a tile, and its warps
TILES = ((16, 16, 16, 4), (32, 8, 16, 4), (16, 8, 32, 4))
LABEL_TILES = ((16, 16, 16, 4), (8, 32, 16, 4), (16, 8, 32, 4))


def _tuned(tiles: Sequence[tuple[int, int, int, int]]) -> Callable[[Any], Any]:
    """Choose by time among tiles, anew for other numbers of labels and channels, and for a `BUCKET`
    of rows; the first will do to interpret."""
    configs = [tile_config(*tile) for tile in (tiles[:1] if INTERPRETED else tiles)]
    prune = {"early_config_prune": _prune}
    return triton.autotune(configs, key=["C", "A", "BUCKET"], prune_configs_by=prune)


def tile_config(rows: int, labels: int, channels: int, warps: int) -> triton.Config:
    """A tile, as the autotuner takes it."""
    sizes = {"ROWS": rows, "LABELS": labels, "CHANNELS": channels}
    return triton.Config(sizes, num_warps=warps)


def _prune(configs: list[triton.Config], *_: object, **__: object) -> list[triton.Config]:
    """The first alone, where the order of sums must not depend on times."""
    return configs[:1] if torch.are_deterministic_algorithms_enabled() else configs


@triton.jit
def _tanh(x):
    # not libdevice's, which the interpreter lacks; right at both ends, as exp overflows to inf
    large = 2 / (1 + tl.exp(-2 * x)) - 1
    # near 0, where that loses its digits, the first terms of the series
    y = x * x
    series = x * (1 + y * (-1 / 3 + y * (2 / 15 + y * (-17 / 315 + y * (62 / 2835)))))
    return tl.where(y < 0.0625, series, large)


@_tuned(TILES)
@triton.jit(do_not_specialize=["BUCKET"])
def _forward(
    patches, labels, weight, scores, R, N, C, A, BUCKET,
    ROWS: tl.constexpr, LABELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """scores[b, c, n] = sum over a of weight_a tanh(patches_ra labels_ca), a tile of (r, c)."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * LABELS + tl.arange(0, LABELS)
    total = tl.zeros((ROWS, LABELS), tl.float32)
    for start in range(0, A, CHANNELS):
        channels = start + tl.arange(0, CHANNELS)
        inside = channels[None, :] < A
        x = tl.load(
            patches + rows[:, None].to(tl.int64) * A + channels[None, :],
            mask=(rows[:, None] < R) & inside, other=0.0,
        ).to(tl.float32)  # fmt: skip
        e = tl.load(
            labels + columns[:, None] * A + channels[None, :],
            mask=(columns[:, None] < C) & inside, other=0.0,
        ).to(tl.float32)  # fmt: skip
        w = tl.load(weight + channels, mask=channels < A, other=0.0).to(tl.float32)
        joint = _tanh(x[:, None, :] * e[None, :, :])
        total += tl.sum(joint * w[None, None, :], axis=2)
    place = ((rows // N).to(tl.int64) * C)[:, None] + columns[None, :]
    place = place * N + (rows % N)[:, None]
    tl.store(scores + place, total, mask=(rows[:, None] < R) & (columns[None, :] < C))


@_tuned(TILES)
@triton.jit(do_not_specialize=["BUCKET"])
def _backward_patches(
    patches, labels, weight, gradient, d_patches, R, N, C, A, BUCKET,
    ROWS: tl.constexpr, LABELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """d_patches_ra = weight_a sum over c of gradient_rc labels_ca (1 - tanh^2)."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = rows[:, None].to(tl.int64) * A + channels[None, :]
    inside = (rows[:, None] < R) & (channels[None, :] < A)
    x = tl.load(patches + place, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + channels, mask=channels < A, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for start in range(0, C, LABELS):
        columns = start + tl.arange(0, LABELS)
        e = tl.load(
            labels + columns[:, None] * A + channels[None, :],
            mask=(columns[:, None] < C) & (channels[None, :] < A), other=0.0,
        ).to(tl.float32)  # fmt: skip
        g_place = (((rows // N).to(tl.int64) * C)[:, None] + columns[None, :]) * N
        g = tl.load(
            gradient + g_place + (rows % N)[:, None],
            mask=(rows[:, None] < R) & (columns[None, :] < C), other=0.0,
        )  # fmt: skip
        joint = _tanh(x[:, None, :] * e[None, :, :])
        total += tl.sum(g[:, :, None] * e[None, :, :] * (1 - joint * joint), axis=1)
    tl.store(d_patches + place, total * w[None, :], mask=inside)


@_tuned(LABEL_TILES)
@triton.jit(do_not_specialize=["BUCKET"])
def _backward_labels(
    patches, labels, weight, gradient, d_labels, d_weight, R, N, C, A, BUCKET, CHUNK,
    ROWS: tl.constexpr, LABELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Of one chunk of rows: d_labels_ca = weight_a sum over r of gradient_rc patches_ra (1 -
    tanh^2), and each label's part of d_weight_a = sum over r and c of gradient_rc tanh."""
    columns = tl.program_id(0) * LABELS + tl.arange(0, LABELS)
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    chunk = tl.program_id(2)
    inside = (columns[:, None] < C) & (channels[None, :] < A)
    e_place = columns[:, None] * A + channels[None, :]
    e = tl.load(labels + e_place, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + channels, mask=channels < A, other=0.0).to(tl.float32)
    labels_total = tl.zeros((LABELS, CHANNELS), tl.float32)
    weight_total = tl.zeros((LABELS, CHANNELS), tl.float32)
    for start in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, R), ROWS):
        rows = start + tl.arange(0, ROWS)
        known = (rows < R) & (rows < chunk * CHUNK + CHUNK)
        x = tl.load(
            patches + rows[:, None].to(tl.int64) * A + channels[None, :],
            mask=known[:, None] & (channels[None, :] < A), other=0.0,
        ).to(tl.float32)  # fmt: skip
        g_place = (((rows // N).to(tl.int64) * C)[:, None] + columns[None, :]) * N
        g = tl.load(
            gradient + g_place + (rows % N)[:, None],
            mask=known[:, None] & (columns[None, :] < C), other=0.0,
        )  # fmt: skip
        joint = _tanh(x[:, None, :] * e[None, :, :])
        weight_total += tl.sum(g[:, :, None] * joint, axis=0)
        labels_total += tl.sum(g[:, :, None] * x[:, None, :] * (1 - joint * joint), axis=0)
    place = chunk.to(tl.int64) * C * A + e_place
    tl.store(d_labels + place, labels_total * w[None, :], mask=inside)
    tl.store(d_weight + place, weight_total, mask=inside)


def scores_forward(patches: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Projected patches (B, N, A), labels (C, A), weight (A,) -> scores (B, C, N) in float32."""
    images, num_patches, size = patches.shape
    rows, num_labels = images * num_patches, len(labels)
    patches, labels, weight = (each.contiguous() for each in (patches, labels, weight))
    scores = patches.new_empty(images, num_labels, num_patches, dtype=torch.float32)
    if not scores.numel():
        return scores

    def grid(tile: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(rows, tile["ROWS"]), triton.cdiv(num_labels, tile["LABELS"])

    with _on_its_device(patches):
        _forward[grid](
            patches, labels, weight, scores, rows, num_patches, num_labels, size, _bucket(rows)
        )
    return scores


def scores_backward(
    patches: Tensor, labels: Tensor, weight: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of patches, labels and weight, contiguous and in their number types, for those
    of scores."""
    images, num_patches, size = patches.shape
    rows, num_labels = images * num_patches, len(labels)
    patches, labels, weight = (each.contiguous() for each in (patches, labels, weight))
    gradient = gradient.float().contiguous()
    if not gradient.numel():
        return torch.zeros_like(patches), torch.zeros_like(labels), torch.zeros_like(weight)
    sizes = (rows, num_patches, num_labels, size, _bucket(rows))
    d_patches = torch.empty_like(patches)
    chunk = triton.cdiv(rows, ROW_CHUNKS)
    chunks = triton.cdiv(rows, chunk)
    partial = patches.new_empty(2, chunks, num_labels, size, dtype=torch.float32)

    def patches_grid(tile: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(rows, tile["ROWS"]), triton.cdiv(size, tile["CHANNELS"])

    def labels_grid(tile: dict[str, int]) -> tuple[int, int, int]:
        parts = triton.cdiv(num_labels, tile["LABELS"]), triton.cdiv(size, tile["CHANNELS"])
        return (*parts, chunks)

    with _on_its_device(patches):
        _backward_patches[patches_grid](patches, labels, weight, gradient, d_patches, *sizes)
        _backward_labels[labels_grid](patches, labels, weight, gradient, *partial, *sizes, chunk)
    d_labels, d_weight = partial.sum(dim=1)
    return d_patches, d_labels.to(labels.dtype), d_weight.sum(dim=0).to(weight.dtype)


def try_out(device: torch.device) -> None:
    """Compile each kernel with its first tile, and run it. Raises whatever goes wrong."""
    x, e, w = (torch.ones(shape, device=device) for shape in ((1, 16, 16), (16, 16), (16,)))
    scores, sizes = torch.ones(1, 16, 16, device=device), (16, 16, 16, 16, 1)
    outputs = [torch.empty(16, 16, device=device) for _ in range(3)]
    with _on_its_device(x):
        for kernel, grid, others in (
            (_forward, (1, 2), (scores, *sizes)),
            (_backward_patches, (1, 1), (scores, outputs[0], *sizes)),
            (_backward_labels, (1, 1, 1), (scores, *outputs[1:], *sizes, 16)),
        ):
            tile = kernel.configs[0].all_kwargs()
            kernel.fn[grid](x, e, w, *others, **tile)
        outputs[0].cpu()  # an error of the device is raised by what waits for it


def _on_its_device(tensor: Tensor) -> contextlib.AbstractContextManager:
    """Triton launches on the thread's present GPU, which may be another than that of `tensor`."""
    return torch.cuda.device_of(tensor) if tensor.is_cuda else contextlib.nullcontext()


def _bucket(rows: int) -> int:
    """Numbers of rows of which one tile suits all: within a factor of 4."""
    return rows.bit_length() // 2
