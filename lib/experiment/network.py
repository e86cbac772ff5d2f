"""From a configuration to its network, its normalisation, and a network for inference alone."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lib.common.errors import UserError
from lib.config import Config
from lib.runtime.device import exact_float32
from models import ModelError, registry
from models.backbones import build_backbone
from models.bilinear import BilinearAttention, triton_problem, wants_triton
from models.classifier import Classifier
from models.folding import fold_norms


def build_model(
    config: Config, num_labels: int, label_embeddings: np.ndarray | Tensor | None, weights: str
) -> Classifier:
    """Build the network of `config` on the CPU.

    `label_embeddings` (C, T) are fixed; None makes learned ones. `weights` are the backbone's:
    `pretrained`, `none` or a file. Raises `UserError` for settings that the architecture refuses.
    """
    require_known_switch()
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


def require_known_switch() -> None:
    """Raise `UserError` for an unknown value of SGRE_TRITON, now and not in the first step."""
    try:
        wants_triton()
    except ModelError as error:
        raise UserError(str(error)) from error


def prepare_for_inference(model: Classifier, image_size: int) -> Classifier:
    """Change `model` to give the same scores in less time; it cannot be trained afterwards."""
    model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    image = torch.zeros(1, 3, image_size, image_size, device=next(model.parameters()).device)
    with exact_float32():
        fold_norms(model, image.contiguous(memory_format=torch.channels_last))
    return model


def kernel_note(model: nn.Module, device: torch.device) -> str | None:
    """Why a network's attention takes longer than it must on a GPU; None where it does not."""
    attends = any(isinstance(module, BilinearAttention) for module in model.modules())
    if device.type != "cuda" or not attends or not wants_triton():
        return None
    problem = triton_problem(device)
    return problem and f"attention is computed without Triton, more slowly: {problem}"


class Normalizer:
    """Maps uint8 pixels (B, 3, S, S) to float32: in [0, 1], less `mean`, over `std`.

    In the memory order of channels last, in which convolutions are fastest.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return (pixels.float() / 255 - self.mean) / self.std


def build_normalizer(config: Config, device: torch.device) -> Normalizer:
    """The normalisation that `--norm` or `--orid-norm` chose."""
    arch = registry.find_arch(config.arch)
    return Normalizer(*registry.normalization(config.normalization, arch), device)


def head_parameters(model: nn.Module) -> int:
    """How many parameters a network has outside its backbone."""
    named = model.named_parameters()
    return sum(one.numel() for name, one in named if not name.startswith("backbone."))
