"""Where a backbone's weights come from: timm's hub, its cache, or a file of the user's.

Both functions give the part of timm's pretrained configuration to lay over a model's own, so that
timm's filters (names, position tables) treat every source alike.
"""

import contextlib
import logging
import math
import os
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import vision_transformer
from torch import Tensor, nn

from models.errors import ModelError

PROBE_SECONDS = 5


def download(timm_name: str) -> dict[str, Any]:
    """Fetch the weights of `timm_name` from the hub, or find them in its cache.

    Raises `ModelError` within seconds where there are no such weights, or no way to the hub.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import ENDPOINT

    facts = timm.get_pretrained_cfg(timm_name)
    if facts is None or not facts.has_weights:
        raise ModelError(
            f"--weights pretrained: timm has none for {timm_name}: pass --weights none or a file"
        )
    if not facts.hf_hub_id:
        _require_connection(timm_name, facts.url)
        return {}
    name = facts.hf_hub_filename or "model.safetensors"
    cached = try_to_load_from_cache(facts.hf_hub_id, name)
    if isinstance(cached, str):
        return read_weights(Path(cached))
    _require_connection(timm_name, ENDPOINT)
    try:
        downloaded = hf_hub_download(facts.hf_hub_id, name)
    except OSError as error:
        raise _unreachable(timm_name, error) from error
    return read_weights(Path(downloaded))


def read_weights(path: Path) -> dict[str, Any]:
    """Read a file of weights: .safetensors, .pth (tensors only, no code) or a publisher's .npz."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise ModelError(
            f"--weights {path}: {found}: pass pretrained, none, or the path of a weight file"
        )
    if path.suffix == ".npz":
        try:
            require_honest_size(path)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ModelError(f"--weights {path}: not a readable weight file: {error}") from error
        return {"file": str(path), "custom_load": True}
    try:
        require_honest_size(path)
        with warnings.catch_warnings(action="ignore"):
            state = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # bytes from elsewhere can fail a reader in any way
        raise ModelError(
            f"--weights {path}: not a readable weight file; expected a .pth or .safetensors file "
            "that holds tensors by name"
        ) from error
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    if not tensors:
        raise ModelError(f"--weights {path}: holds no tensors by name")
    if not all(map(is_plain, tensors)):
        raise ModelError(f"--weights {path}: holds values that are not plain tensors")
    if not all(map(is_finite, tensors)):
        raise ModelError(f"--weights {path}: holds values that are not finite numbers")
    return {"state_dict": state}


def is_plain(value: object) -> bool:
    """Whether `value` is a dense tensor that holds its numbers: not sparse, quantized, of 8-bit
    floats, on meta, or few numbers that a stride of 0 shows as many."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_quantized)
        and not (value.is_floating_point() and value.itemsize < 2)
        and value.nbytes <= value.untyped_storage().nbytes()
    )


def is_finite(tensor: Tensor) -> bool:
    """Whether the numbers of a plain tensor are; floats take no memory for it."""
    if tensor.is_floating_point() and tensor.numel():
        return all(bool(edge.isfinite()) for edge in tensor.aminmax())
    return bool(tensor.isfinite().all())


def require_honest_size(path: Path) -> None:
    """Raise `ValueError` for a zip archive that would unpack to more than its own size.

    PyTorch never compresses its files, but reads such ones.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are larger than the file")


@contextlib.contextmanager
def complete_load() -> Iterator[None]:
    """Refuse weights that leave a part of a model as it was initialised.

    timm loads without a word what fits of a file as soon as the classifier is left out. The results
    of the loads inside the block are looked at when it ends; names that the model does not know
    (a classifier) are fine, names that it lacks raise `ModelError`.
    """
    load, results = nn.Module.load_state_dict, []
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what it would say is said below

    def recording(module, state, *arguments, **options):
        state = _for_final_norm(module, state)
        results.append(load(module, state, *arguments, **options))
        for name, own in module.state_dict().items():
            if name in state and own.is_floating_point() != state[name].is_floating_point():
                raise ModelError(f"{name} is {state[name].dtype}, expected {own.dtype}")
        return results[-1]

    nn.Module.load_state_dict = recording
    try:
        yield
    finally:
        nn.Module.load_state_dict = load
        logger.setLevel(level)
    for missing, unknown in results:
        if missing:
            has = f", has {unknown[0]}" if unknown else ""
            raise ModelError(
                f"expected {missing[0]}{has} ({len(missing)} names missing, {len(unknown)} unknown)"
            )


def _for_final_norm(module: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Average-pooled ViTs norm after the pooling (`fc_norm`); without it, that norm is the last."""
    own = module.state_dict()
    if "norm.weight" not in own or "fc_norm.weight" in own or "fc_norm.weight" not in state:
        return state
    return {name.replace("fc_norm.", "norm.", 1): tensor for name, tensor in state.items()}


@contextlib.contextmanager
def published_table_resize() -> Iterator[None]:
    """Resize ViT position tables by bicubic interpolation without antialiasing, as published.

    timm's loaders ask for antialiasing, or for bilinear interpolation of a publisher's .npz.
    """

    def published(table, new_size, old_size=None, num_prefix_tokens=1, **_):
        return resize_table(table, new_size, num_prefix_tokens, old_size)

    with mock.patch.object(vision_transformer, "resample_abs_pos_embed", published):
        yield


def resize_table(
    table: Tensor,
    grid: tuple[int, int],
    prefix_tokens: int,
    old_grid: tuple[int, int] | None = None,
) -> Tensor:
    """A position table (1, P + n, D), square unless `old_grid` says so, for a `grid` (H, W)."""
    patches = table.shape[1] - prefix_tokens
    side = math.isqrt(max(patches, 0))
    old_grid = old_grid or (side, side)
    if patches != old_grid[0] * old_grid[1]:
        raise ModelError(
            f"pos_embed has {table.shape[1]} rows, which is no square grid with {prefix_tokens} "
            "class tokens"
        )
    return resample_abs_pos_embed(
        table, list(grid), list(old_grid), prefix_tokens, interpolation="bicubic", antialias=False
    )


def _require_connection(timm_name: str, address: str) -> None:
    try:
        reach(address)
    except OSError as error:
        raise _unreachable(timm_name, getattr(error, "reason", error)) from error


def reach(address: str) -> None:
    """Raise `OSError` within seconds where `address` cannot be reached: the hub's own client tries
    for a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise OSError("HF_HUB_OFFLINE is set")
    try:
        request = urllib.request.Request(address, method="HEAD")
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return


def _unreachable(timm_name: str, reason: object) -> ModelError:
    return ModelError(
        f"--weights pretrained: the weights of {timm_name} are not cached and cannot be "
        f"downloaded ({reason}): pass --weights PATH with a downloaded file, or --weights none"
    )
