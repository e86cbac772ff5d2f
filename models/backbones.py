"""Backbones: any timm model as a map from images to patch tokens.

Shapes: B images, S image side, D features, N = H * W patches, P prefix tokens (class token of a
ViT, none elsewhere).
"""

import math
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from models.errors import ModelError
from models.registry import Arch
from models.weights import complete_load, download, read_weights

REFUSALS = (TypeError, NotImplementedError, AssertionError)  # of timm, for an option it has not


class Backbone(nn.Module):
    """The last feature map of a timm model before pooling, as tokens in row-major order.

    Attributes: `num_features` D; `prefix_tokens` P, those that `forward` returns in front of the
    patches; `grid` (H, W) and `stride` (pixels per patch) at the image side it was built for.
    """

    def __init__(self, trunk: nn.Module, image_size: int, drop_class_token: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_features = trunk.num_features
        self.channels_last = getattr(trunk, "output_fmt", "NCHW") == "NHWC"
        self.trunk_prefix_tokens = getattr(trunk, "num_prefix_tokens", 0)
        self.drop_class_token = drop_class_token
        self.grid = self._probe(image_size)
        self.stride = image_size / self.grid[0]

    @property
    def prefix_tokens(self) -> int:
        return 0 if self.drop_class_token else self.trunk_prefix_tokens

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S) -> tokens (B, P + N, D)."""
        features = self.trunk.forward_features(images)
        if features.ndim == 4:
            return features.flatten(1, 2) if self.channels_last else features.flatten(2).mT
        return features[:, self.trunk_prefix_tokens :] if self.drop_class_token else features

    def _probe(self, image_size: int) -> tuple[int, int]:
        """Height and width of the patch grid, read from the map that one image gives."""
        training = self.trunk.training
        self.trunk.eval()
        with torch.no_grad():
            features = self.trunk.forward_features(torch.zeros(1, 3, image_size, image_size))
        self.trunk.train(training)
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise ModelError("gives no feature map, so it cannot be used as a backbone")
        if features.ndim == 4:
            height, width = features.shape[1:3] if self.channels_last else features.shape[2:4]
            return height, width
        side = math.isqrt(features.shape[1] - self.trunk_prefix_tokens)
        if side * side + self.trunk_prefix_tokens != features.shape[1]:
            raise ModelError("its tokens do not form a square grid")
        return side, side


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

    `weights`: `pretrained` downloads timm's (or takes them from its cache), `none` initialises at
    random, anything else is a file. Raises `ModelError` for sizes, strides and weights that do not
    fit.
    """
    options = {} if output_stride is None else {"output_stride": output_stride}
    if weights == "pretrained":
        options |= {"pretrained": True, "pretrained_cfg_overlay": download(arch.timm_name)}
    elif weights != "none":
        options |= {"pretrained": True, "pretrained_cfg_overlay": read_weights(Path(weights))}
    try:
        with complete_load():
            trunk = _create(arch.timm_name, options)
    except Exception as error:
        if output_stride is not None and isinstance(error, REFUSALS):
            raise ModelError(
                f"--output-stride {output_stride}: {name} cannot take it; leave the flag out, or "
                "use a ResNet with 8, 16 or 32"
            ) from error
        if weights != "none":  # bytes from elsewhere can fail timm's filters in any way
            raise ModelError(
                f"--weights {weights}: does not fit {name}: {_brief(error)}"
            ) from error
        if isinstance(error, REFUSALS):
            raise ModelError(f"--arch {name}: no use as a backbone: {_brief(error)}") from error
        raise
    trunk.pretrained_cfg.pop("state_dict", None)
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


def _create(name: str, options: dict) -> nn.Module:
    """The timm model without classifier, and without pooling where it can do so: models that pool
    by averaging would keep their final norm for after it."""
    try:
        return timm.create_model(name, num_classes=0, global_pool="", **options)
    except AssertionError:
        return timm.create_model(name, num_classes=0, **options)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else text[:400] + " ..."
