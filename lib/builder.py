"""From a configuration to the network, its starting weights and its normalisation."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib import checkpoint
from lib.config import Config
from lib.errors import UserError
from lib.transforms import Normalizer
from models import registry
from models.backbones import build_backbone
from models.errors import ModelError
from models.mlic import MLIC

CLASSIFIERS = ("object_classifier.", "patch_classifier.")


def build_model(
    config: Config, num_labels: int, label_embeddings: np.ndarray | Tensor | None, weights: str
) -> MLIC:
    """Build the network of `config` on the CPU.

    `label_embeddings` (C, T) are fixed, None makes learned ones. `weights` are the backbone's:
    `pretrained`, `none` or a file. Raises `UserError` for what the architecture cannot take.
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
        return MLIC(
            backbone,
            num_labels,
            embeddings,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            position=config.pos,
            pre_norm=config.normalize_before,
            tau=config.tau,
        )
    except ModelError as error:
        raise UserError(str(error)) from error


def build_normalizer(config: Config, device: torch.device) -> Normalizer:
    """The normalisation that `--norm` or `--orid-norm` chose."""
    arch = registry.find_arch(config.arch)
    return Normalizer(*registry.normalization(config.normalization, arch), device)


def notes(config: Config, model: MLIC) -> Iterator[str]:
    """What the user may not have meant by `config`."""
    arch = registry.find_arch(config.arch)
    if config.rm_cls and not model.backbone.trunk_prefix_tokens:
        yield f"--rm-cls changes nothing, {config.arch} has no class token"
    chosen = config.norm or config.orid_norm or config.pretrained_model
    if config.weights != "none" and not chosen and arch.expects != "imagenet":
        flag = "--orid-norm" if arch.expects == "none" else "--norm weights"
        yield (
            "pixels are normalised by ImageNet's mean and std, as published; the weights of "
            f"{config.arch} expect mean {arch.mean} and std {arch.std}: pass {flag} for these, or "
            "--norm imagenet to keep it without this note"
        )


def start_from(model: MLIC, labels: list[str], path: str) -> None:
    """Take all but the two classifiers from another experiment, whatever its labels.

    `path` is a checkpoint or an experiment folder, in this project's form or the published one.
    Fixed label embeddings stay those of the present labels; learned ones are taken only from the
    same label list.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "checkpoints" / "best_ema_model.pth"
    content = checkpoint.load_model_checkpoint(file)
    own = model.state_dict()
    state = content.state_for(model)
    kept = [name for name in own if name.startswith(CLASSIFIERS)]
    learned = isinstance(model.label_embeddings, torch.nn.Parameter)
    if not (learned and content.labels == labels):
        kept.append("label_embeddings")
    state |= {name: own[name] for name in kept}
    content.load_into(model, state)
