"""From a configuration to its network, its normalisation, and a network for inference alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib.common.errors import UserError
from lib.config import Config
from lib.data.transforms import Normalizer
from lib.experiment.hub import is_hub_name
from lib.runtime.device import emulates_bfloat16, exact_float32
from models import registry
from models.backbones import build_backbone
from models.classifier import Classifier
from models.errors import ModelError
from models.folding import fold_norms

# shares of the EMA model that are still what it began with: too much, and little
MOST_OF_THE_START, FEW_OF_THE_START = 0.2, 0.01


def build_model(
    config: Config, num_labels: int, label_embeddings: np.ndarray | Tensor | None, weights: str
) -> Classifier:
    """Build the network of `config` on the CPU.

    `label_embeddings` (C, T) are fixed; None makes learned ones. `weights` are the backbone's:
    `pretrained`, `none` or a file. Raises `UserError` for settings that the architecture refuses.
    """
    embeddings = None if label_embeddings is None else torch.as_tensor(label_embeddings)
    try:
        backbone = build_backbone(
            config.arch,
            registry.find_arch(config.arch),
            image_size=config.img_size,
            weights=weights,
            output_stride=config.output_stride,
            drop_class_token=config.rm_cls,
        )
        return Classifier(backbone, config.model, num_labels, config.to_dict(), embeddings)
    except ModelError as error:
        raise UserError(str(error)) from error


def prepare_for_inference(model: Classifier, image_size: int) -> Classifier:
    """Change `model` to give the same scores in less time; it cannot be trained afterwards."""
    model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    image = torch.zeros(1, 3, image_size, image_size, device=next(model.parameters()).device)
    with exact_float32():
        fold_norms(model, image.contiguous(memory_format=torch.channels_last))
    return model


def on_inputs(model: Classifier, config: Config) -> nn.Module:
    """`model` on what a training with `config` reads: images, or features of `--cache-features`."""
    return model.head if config.cache_features else model


def build_preprocessing(config: Config, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What a training with `config` does to a batch before the network: features stay as they
    are."""
    return nn.Identity() if config.cache_features else build_normalizer(config, device)


def build_normalizer(config: Config, device: torch.device) -> Normalizer:
    """The normalisation that `--norm` or `--orid-norm` chose."""
    arch = registry.find_arch(config.arch)
    return Normalizer(*registry.normalization(config.normalization, arch), device)


def head_parameters(model: nn.Module) -> int:
    """How many parameters a network has outside its backbone."""
    named = model.named_parameters()
    return sum(one.numel() for name, one in named if not name.startswith("backbone."))


def config_notes(config: Config, model: Classifier, total_steps: int) -> Iterator[str]:
    """Settings of `config` that may not do what the user expects, in a run of `total_steps`."""
    left = config.ema_decay**total_steps
    if left > MOST_OF_THE_START and not config.limit:
        enough = FEW_OF_THE_START ** (1 / total_steps)
        yield (
            f"--ema-decay {config.ema_decay:g}: after {total_steps} steps, {left:.0%} of the EMA "
            "model, which is scored and saved, is still from the start: pass a smaller one, such "
            f"as {enough:.3g}"
        )
    arch = registry.find_arch(config.arch)
    if config.freeze_backbone and config.weights == "none" and not config.pretrained_model:
        yield "--freeze-backbone keeps random weights: --weights none, and no --pretrained-model"
    if config.freeze_backbone and config.grad_checkpointing:
        yield "--grad-checkpointing changes nothing, the backbone is not trained"
    if config.rm_cls and not model.backbone.trunk_prefix_tokens:
        yield f"--rm-cls changes nothing, {config.arch} has no class token"
    device = next(model.parameters()).device
    if config.amp and emulates_bfloat16(device):
        yield (
            "--amp: this CPU is not known to compute bfloat16 itself, and is then several times "
            "slower with it"
        )
    if config.tf32 and device.type != "cuda":
        yield "--tf32 changes nothing, it is for CUDA"
    own = is_hub_name(config.weights) or Path(config.weights).is_dir()  # trained by this project
    chosen = config.norm or config.orid_norm or config.pretrained_model or own
    if (
        config.weights != "none"
        and not chosen
        and arch.expects not in ("imagenet", arch.default_norm)
    ):
        flag = "--orid-norm" if arch.expects == "none" else "--norm weights"
        yield (
            "pixels are normalised by ImageNet's mean and std, as published; the weights of "
            f"{config.arch} expect mean {arch.mean} and std {arch.std}: pass {flag} for these, or "
            "--norm imagenet to keep it without this note"
        )
