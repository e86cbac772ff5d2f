"""Optimisers over the parameters of a network."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

# the choices of --optimizer
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "AdamW": partial(AdamW, eps=1e-8),
    "Adam": partial(Adam, eps=1e-8),  # coupled L2
    "SGD": partial(SGD, momentum=0.9),
}


def make_optimizer(
    model: nn.Module,
    name: str,
    *,
    lr: float,
    weight_decay: float,
    true_weight_decay: bool = False,
    backbone_lr_scale: float = 1.0,
) -> Optimizer:
    """The optimiser `name` of `OPTIMIZERS` over the trainable parameters of `model`.

    With `true_weight_decay`, biases and other 1-d parameters are not decayed. The learning rate of
    `model.backbone` is `backbone_lr_scale` times `lr`. Raises `KeyError` for an unknown name.
    """
    groups = parameter_groups(model, weight_decay, true_weight_decay, lr, backbone_lr_scale)
    # one kernel for all parameters, where PyTorch has it; that of SGD takes its momentum from
    # uninitialised memory if the loss scaler skips the first step
    fused = name != "SGD" and next(model.parameters()).device.type in ("cpu", "cuda")
    return OPTIMIZERS[name](groups, lr=lr, fused=fused)


def trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that need a gradient, by name.

    Learned label embeddings come first: optimisers count parameters, and so do their states in
    every `last.pth`.
    """
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    return sorted(named, key=lambda item: item[0] != "head.label_embeddings")


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    true_weight_decay: bool,
    lr: float,
    backbone_lr_scale: float = 1.0,
) -> list[dict[str, Any]]:
    """One group of all trainable parameters; if 1-d ones are not decayed, or the backbone has its
    own rate, one group for each kind, full-rate groups first."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in trained_parameters(model):
        scaled = backbone_lr_scale != 1 and name.startswith("backbone.")
        undecayed = true_weight_decay and parameter.ndim <= 1
        groups.setdefault((scaled, undecayed), []).append(parameter)
    return [
        {
            "params": groups[scaled, undecayed],
            "weight_decay": 0.0 if undecayed else weight_decay,
            "lr": lr * backbone_lr_scale if scaled else lr,
        }
        for scaled, undecayed in sorted(groups)
    ]
