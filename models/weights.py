"""Where a backbone's weights come from (the hub, its cache, a package, or a file), and how they are
loaded.

Shapes: P prefix tokens (class token of a ViT), N patches, D features.
"""

import inspect
import math
import os
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from models import ModelError
from models.packages import WeightsPackage, rename_efficientnet_lite
from models.untrusted import is_finite, is_plain, require_honest_size

PROBE_SECONDS = 5
# what timm's modules call the function that renames a publisher's state dict
FILTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
FILTER_OPTIONS = {"timm.models.deit": {"adapt_layer_scale": True}}  # as timm calls them
OWN_BACKBONE = "backbone.trunk."  # begins its names in a checkpoint of this project
FLAX_POSITION_TABLE = "pos_embedding"  # ends its name in a publisher's .npz


class Weights(NamedTuple):
    """A state dict in any publisher's names or those of this project's checkpoints, or the path of
    a publisher's .npz."""

    state: Mapping[str, Tensor]
    npz: Path | None = None


def pretrained_weights(timm_name: str, package: WeightsPackage | None = None) -> Weights:
    """The weights of `timm_name`: from the hub's cache, the installed `package`, or the hub.

    Raises `ModelError` within seconds if there are no such weights, or no way to the hub.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import ENDPOINT

    facts = timm.get_pretrained_cfg(timm_name)
    if facts is None or not facts.has_weights:
        raise ModelError(
            f"--weights pretrained: timm has none for {timm_name}: pass --weights none or a file"
        )
    name = facts.hf_hub_filename or "model.safetensors"
    cached = try_to_load_from_cache(facts.hf_hub_id, name) if facts.hf_hub_id else None
    if isinstance(cached, str):
        return read_weights(Path(cached))
    if package and (path := package.find()):
        return read_weights(path)
    try:
        reach(ENDPOINT if facts.hf_hub_id else facts.url)
        if facts.hf_hub_id:
            return read_weights(Path(hf_hub_download(facts.hf_hub_id, name)))
        file = Path(torch.hub.get_dir()) / "checkpoints" / facts.url.rpartition("/")[2]
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            torch.hub.download_url_to_file(facts.url, str(file))
        return read_weights(file)
    except OSError as error:
        install = f"{package.remedy}, " if package else ""
        raise ModelError(
            f"--weights pretrained: the weights of {timm_name} are not cached and cannot be "
            f"downloaded ({getattr(error, 'reason', error)}): {install}pass --weights PATH with a "
            "downloaded file, or --weights none"
        ) from error


def read_weights(path: Path) -> Weights:
    """Read a file of weights: .safetensors, .pth (tensors only, no code) or a publisher's .npz."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise ModelError(
            f"--weights {path}: {found}: pass pretrained, none, or the path of a weight file, of "
            "an experiment or of an exported model"
        )
    try:
        require_honest_size(path)
        if path.suffix == ".npz":
            return Weights({}, path)
        with warnings.catch_warnings(action="ignore"):
            state = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged file can raise anything in a reader
        raise ModelError(
            f"--weights {path}: not a readable weight file; expected a .pth, .safetensors or .npz "
            "file that holds tensors by name"
        ) from error
    parts = [state, *(part for part in state.values() if isinstance(part, Mapping))]
    tensors = [value for part in parts for value in part.values() if isinstance(value, Tensor)]
    if not tensors:
        raise ModelError(f"--weights {path}: holds no tensors by name")
    if not all(is_plain(tensor) and is_finite(tensor) for tensor in tensors):
        raise ModelError(f"--weights {path}: holds values that are not plain, finite numbers")
    return Weights(state)


def load_weights(trunk: Any, timm_name: str, weights: Weights) -> None:
    """Load `weights` into a timm model without classifier.

    Names that the model does not have are ignored. Raises `ModelError` for weights
    that leave a part of the model as it was initialised; timm's own readers raise other errors.
    """
    if weights.npz:
        _load_npz(trunk, weights.npz)
        return
    state = rename_efficientnet_lite(trunk, _backbone_of(weights.state))
    state = _for_final_norm(trunk, _to_timm_names(trunk, timm_name, state))
    classifier = trunk.pretrained_cfg.get("classifier") or ()
    for name in (classifier,) if isinstance(classifier, str) else classifier:
        state.pop(f"{name}.weight", None)
        state.pop(f"{name}.bias", None)
    for name, own in trunk.state_dict().items():
        if name in state and own.is_floating_point() != state[name].is_floating_point():
            raise ModelError(f"{name} is {state[name].dtype}, expected {own.dtype}")
    missing, unknown = trunk.load_state_dict(state, strict=False)
    if missing:
        has = f", has {unknown[0]}" if unknown else ""
        raise ModelError(
            f"expected {missing[0]}{has} ({len(missing)} names missing, {len(unknown)} unknown)"
        )


def resize_table(table: Tensor, grid: tuple[int, int], prefix_tokens: int) -> Tensor:
    """A square position table (1, P + n, D), resized for a `grid` (H, W) as published."""
    patches = table.shape[1] - prefix_tokens
    side = math.isqrt(max(patches, 0))
    if patches != side * side:
        raise ModelError(
            f"pos_embed has {table.shape[1]} rows, which is no square grid with {prefix_tokens} "
            "class tokens"
        )
    return resample_abs_pos_embed(
        table, list(grid), [side, side], prefix_tokens, interpolation="bicubic", antialias=False
    )


def reach(address: str) -> None:
    """Raise `OSError` within seconds if `address` cannot be reached; the hub's own client tries for
    a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise OSError("HF_HUB_OFFLINE is set")
    try:
        request = urllib.request.Request(address, method="HEAD")
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return


def _backbone_of(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The backbone's part of a checkpoint of this project; another state dict as it is."""
    own = {
        name.removeprefix(OWN_BACKBONE): tensor
        for name, tensor in state.items()
        if name.startswith(OWN_BACKBONE)
    }
    return own or state


def _to_timm_names(trunk: Any, timm_name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under timm's names, by the filter of the module that defines the model.

    timm's filter resizes the position table of a ViT with antialiasing; here it finds none to
    resize, and `resize_table` does it as published.
    """
    module = sys.modules[timm.models.model_entrypoint(timm_name).__module__]
    found = (getattr(module, name, None) for name in FILTERS)
    to_timm_names: Callable[..., Any] | None = next((one for one in found if one), None)
    if to_timm_names is None:
        return dict(state)
    takes_model = len(inspect.signature(to_timm_names).parameters) > 1
    arguments = (state, trunk) if takes_model else (state,)
    options = FILTER_OPTIONS.get(module.__name__, {})
    own = trunk.pos_embed if isinstance(trunk, VisionTransformer) else None
    if own is None:
        return dict(to_timm_names(*arguments, **options))
    trunk.pos_embed = None
    try:
        renamed = dict(to_timm_names(*arguments, **options))
    finally:
        trunk.pos_embed = own
    table = renamed.get("pos_embed")
    if table is not None and table.ndim == 3:
        grid = trunk.patch_embed.grid_size
        renamed["pos_embed"] = resize_table(table, grid, own.shape[1] - grid[0] * grid[1])
    return renamed


def _for_final_norm(trunk: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Average-pooled ViTs norm after the pooling (`fc_norm`); without it, that norm is the last."""
    own = trunk.state_dict()
    if "norm.weight" not in own or "fc_norm.weight" in own or "fc_norm.weight" not in state:
        return state
    return {name.replace("fc_norm.", "norm.", 1): tensor for name, tensor in state.items()}


def _load_npz(trunk: Any, file: Path) -> None:
    """Load a publisher's .npz by timm's reader, but resize its position table as published."""
    if not hasattr(trunk, "load_pretrained"):
        raise ModelError("has no reader for a publisher's .npz")
    with np.load(file, allow_pickle=False) as arrays:
        names = [name for name in arrays if name.endswith(FLAX_POSITION_TABLE)]
        shape = arrays[names[0]].shape if names else None
    own = trunk.pos_embed if isinstance(trunk, VisionTransformer) else None
    if own is None or shape is None:
        trunk.load_pretrained(str(file))
        return
    trunk.pos_embed = nn.Parameter(own.new_empty(shape))  # timm's reader resizes bilinearly
    trunk.load_pretrained(str(file))
    grid = trunk.patch_embed.grid_size
    prefix_tokens = own.shape[1] - grid[0] * grid[1]
    trunk.pos_embed = nn.Parameter(resize_table(trunk.pos_embed.data, grid, prefix_tokens))
