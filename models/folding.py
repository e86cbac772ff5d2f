"""A model for inference alone, its batch norms folded into the layers before them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

FUSIONS: dict[type[nn.Module], Callable[..., tuple[nn.Parameter, nn.Parameter]]] = {
    nn.Conv2d: fuse_conv_bn_weights,
    nn.Linear: fuse_linear_bn_weights,
}
TOLERANCE = 1e-3  # of the largest output; beyond it a norm was folded that must not be


@torch.no_grad()
def fold_norms(model: nn.Module, images: Tensor) -> None:
    """Change `model`, in eval mode, to return the same outputs, up to rounding, in less time.

    A forward pass of `images` (1, 3, S, S) shows which norm takes the output of which convolution
    or linear layer; the norms' running statistics become part of these layers' weights, and the
    norms are removed. If a second pass returns other outputs (tensors or None), it is undone.
    """
    pairs, expected = _norms_and_their_sources(model, images)
    if not pairs:
        return
    modules = dict(model.named_modules())
    replaced = []
    for norm_name, source_name in pairs.items():
        source, norm = modules[source_name], modules[norm_name]
        parent, _, name = norm_name.rpartition(".")
        replaced.append((source, source.weight, source.bias, modules[parent], name, norm))
        source.weight, source.bias = FUSIONS[type(source)](
            source.weight, source.bias, norm.running_mean, norm.running_var, norm.eps,
            norm.weight, norm.bias,
        )  # fmt: skip
        setattr(modules[parent], name, _rest_of(norm))
    same = all(
        (one - other).abs().max() <= TOLERANCE * other.abs().max()
        for one, other in zip(model(images), expected, strict=True)
        if other is not None
    )
    if not same:
        for source, weight, bias, parent, name, norm in replaced:
            source.weight, source.bias = weight, bias
            setattr(parent, name, norm)


def _norms_and_their_sources(
    model: nn.Module, images: Tensor
) -> tuple[dict[str, str], tuple[Tensor, ...]]:
    """Names of norms with those of the layers they follow, and the model's outputs."""
    made: dict[tuple[int, int], str] = {}  # (data_ptr, numel) to the layer that made it
    kept: list[Tensor] = []  # keeps outputs alive, so that data_ptr is not reused
    pairs: dict[str, str] = {}
    calls: list[str] = []

    def note_output(name: str):
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept.append(output)
            calls.append(name)
            made[output.data_ptr(), output.numel()] = name

        return hook

    def note_input(name: str):
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            source = made.get((inputs[0].data_ptr(), inputs[0].numel()))
            calls.append(name)
            if source is not None:
                pairs[name] = source

        return hook

    handles = []
    for name, module in model.named_modules():
        if type(module) in FUSIONS:
            handles.append(module.register_forward_hook(note_output(name)))
        elif isinstance(module, _BatchNorm) and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(note_input(name)))
    outputs = model(images)
    for handle in handles:
        handle.remove()
    once = {name for name in calls if calls.count(name) == 1}  # a shared layer is left alone
    alone = {norm: source for norm, source in pairs.items() if {norm, source} <= once}
    taken = list(alone.values())
    return {norm: source for norm, source in alone.items() if taken.count(source) == 1}, outputs


def _rest_of(norm: nn.Module) -> nn.Module:
    """What a norm does besides: timm's have an activation of their own."""
    steps = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
    return nn.Sequential(*steps)
