"""Backbones: any timm model as a map from images to patch tokens.

Shapes: B images, S image side, D features, N = H * W patches, P prefix tokens (class token of a
ViT, none elsewhere).
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from models import ModelError
from models.registry import Arch, describe_sides
from models.weights import (
    load_weights,
    pretrained_weights,
    read_weights,
    resize_table,
)

TIMM_REFUSALS = (TypeError, NotImplementedError, AssertionError)  # of an option


class Backbone(nn.Module):
    """The last feature map of a timm model before pooling, as tokens in row-major order.

    Attributes: `num_features` D; `prefix_tokens` P, those that `forward` returns in front of the
    patches; `grid` (H, W) and `stride` (pixels per patch) at the image side it was built for.
    """

    def __init__(self, trunk: Any, image_size: int, drop_class_token: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_features = trunk.num_features
        self.channels_last = getattr(trunk, "output_fmt", "NCHW") == "NHWC"
        self.trunk_prefix_tokens = getattr(trunk, "num_prefix_tokens", 0)
        self.drop_class_token = drop_class_token
        for module in trunk.modules():
            if "relative_position_index" in dict(module.named_buffers(recurse=False)):
                # part of the state, since published checkpoints are used with the one they store
                module.register_buffer("relative_position_index", module.relative_position_index)
        self.frozen = False
        self.grid = self._probe(image_size)
        self.stride = image_size / self.grid[0]

    @property
    def prefix_tokens(self) -> int:
        return 0 if self.drop_class_token else self.trunk_prefix_tokens

    def freeze(self) -> None:
        """Stop training: no gradients, and eval mode always, so that the statistics of norms stay
        and no path is dropped."""
        self.frozen = True
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S) -> tokens (B, P + N, D)."""
        features = self.trunk.forward_features(images)
        if features.ndim == 4:
            return features.flatten(1, 2) if self.channels_last else features.flatten(2).mT
        return features[:, self.trunk_prefix_tokens :] if self.drop_class_token else features

    def enable_grad_checkpointing(self) -> None:
        """Keep only the inputs of the trunk's blocks for the backward, and recompute the rest.

        Raises `ModelError` if the trunk cannot.
        """
        try:
            self.trunk.set_grad_checkpointing()
        except (AttributeError, AssertionError, NotImplementedError) as error:
            raise ModelError("does not support gradient checkpointing") from error

    def resize_position_table(self, table: Tensor) -> Tensor:
        """The position table (1, P + n, D) of a ViT of another image side, resized for this grid;
        returned unchanged if the shapes do not apply."""
        own = getattr(self.trunk, "pos_embed", None)
        if own is None or own.ndim != 3 or table.ndim != 3 or own.shape == table.shape:
            return table
        return resize_table(table, self.grid, own.shape[1] - self.grid[0] * self.grid[1])

    def _probe(self, image_size: int) -> tuple[int, int]:
        """Height and width of the patch grid, read from the feature map of one image."""
        features = _features_of_one_image(self.trunk, image_size)
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise ModelError("gives no feature map, so it cannot be used as a backbone")
        if features.ndim == 4:
            height, width = features.shape[1:3] if self.channels_last else features.shape[2:4]
            return height, width
        side = math.isqrt(features.shape[1] - self.trunk_prefix_tokens)
        if side * side + self.trunk_prefix_tokens != features.shape[1]:
            raise ModelError("its tokens do not form a square grid")
        ratio = getattr(getattr(self.trunk, "patch_embed", None), "feat_ratio", None)
        stride = ratio() if ratio else image_size / side
        if stride * side != image_size:
            raise ModelError(
                f"--img-size {image_size}: must be a multiple of its patches' {stride:g} pixels"
            )
        return side, side


@contextlib.contextmanager
def freeze_bn_statistics(model: nn.Module, active: bool) -> Iterator[None]:
    """Do not update the running statistics of batch norms inside the block, if `active`: a forward
    that is recomputed there has updated them already."""
    modules = model.modules() if active else ()
    norms = [module for module in modules if isinstance(module, _BatchNorm)]
    previous = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, batches) in zip(norms, previous, strict=True):
        norm.momentum = 0.0
        norm.num_batches_tracked = batches if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, previous, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


class _Features(nn.Module):
    """`forward_features` of a trunk as a module's forward."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk: Any = trunk

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk.forward_features(images)


def _features_of_one_image(trunk: nn.Module, image_size: int) -> Tensor:
    """The trunk's output in eval mode; on PyTorch's meta device, so without computing it, if its
    operations support that."""
    features = _Features(trunk)
    tensors = {
        name: tensor.to("meta")
        for name, tensor in [*features.named_parameters(), *features.named_buffers()]
    }
    image = torch.zeros(1, 3, image_size, image_size, device="meta")
    training = trunk.training
    trunk.eval()
    with torch.no_grad():
        try:
            output = functional_call(features, tensors, (image,))
        except RuntimeError:
            output = features(torch.zeros_like(image, device=next(trunk.parameters()).device))
    trunk.train(training)
    return output


def build_backbone(
    name: str,
    arch: Arch,
    *,
    image_size: int,
    weights: str = "none",
    output_stride: int | None = None,
    drop_class_token: bool = False,
) -> Backbone:
    """Build the backbone that `--arch name` stands for.

    `weights`: `pretrained` are those of `pretrained_weights`, `none` initialises randomly,
    anything else is a file. Raises `ModelError` for sizes, strides and weights that do
    not fit.
    """
    if image_size not in arch.image_sides:
        raise ModelError(f"--img-size {image_size}: {name} takes {describe_sides(arch)}")
    options: dict[str, Any] = dict(arch.options)
    if output_stride is not None:
        options["output_stride"] = output_stride
    source = None
    if weights != "none":
        source = (
            pretrained_weights(arch.timm_name, arch.package)
            if weights == "pretrained"
            else read_weights(Path(weights))
        )
    facts = timm.get_pretrained_cfg(arch.timm_name)
    if facts is not None and facts.fixed_input_size and facts.input_size[-1] != image_size:
        options["img_size"] = image_size
    try:
        trunk = _create(arch.timm_name, options)
    except TIMM_REFUSALS as error:
        flag, hint = f"--arch {name}", ""
        if output_stride is not None:
            flag, hint = f"--output-stride {output_stride}", "; ResNets take 8, 16 and 32"
        elif "img_size" in options and facts is not None:
            flag, hint = f"--img-size {image_size}", f"; it is made for {facts.input_size[-1]}"
        raise ModelError(f"{flag}: {name} cannot take it: {_brief(error)}{hint}") from error
    if source:
        try:
            load_weights(trunk, arch.timm_name, source)
        except Exception as error:  # bytes from elsewhere can fail timm's filters in any way
            raise ModelError(
                f"--weights {weights}: does not fit {name}: {_brief(error)}"
            ) from error
    try:
        backbone = Backbone(trunk, image_size, drop_class_token)
    except (AssertionError, RuntimeError) as error:
        raise ModelError(
            f"--img-size {image_size}: {name} cannot take it: {_brief(error)}"
        ) from error
    except ModelError as error:
        raise ModelError(f"--arch {name}: {error}") from error
    if output_stride is not None and backbone.grid[0] != -(-image_size // output_stride):
        raise ModelError(
            f"--output-stride {output_stride}: {name} gives {backbone.stride:g} pixels per patch "
            "instead; choose another or leave the flag out"
        )
    return backbone


def _create(name: str, options: dict[str, Any]) -> Any:
    """The timm model without classifier, and without pooling if possible: models that average their
    patches would otherwise normalise after it."""
    try:
        return timm.create_model(name, num_classes=0, global_pool="", **options)
    except AssertionError:
        return timm.create_model(name, num_classes=0, **options)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split()) or "timm gives no reason"
    text = f"no use for {text}" if isinstance(error, KeyError) else text
    return text if len(text) <= 400 else text[:400] + " ..."
