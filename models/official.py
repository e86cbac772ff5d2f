"""The names of published checkpoints; nothing else in the project knows them.

A published state dict is flat, each name behind `module.`. It holds the position code, which this
project computes, and the four 1x1 convolutions with a trailing axis that its linear layers lack.
"""

import re
from collections.abc import Mapping

from torch import Tensor

# ours -> published, tried in this order; each side is a prefix or part of a name
_RENAMED = (
    ("backbone.trunk.", "backbone."),
    ("label_embeddings", "embeddings"),
    ("inter_modal.patch_projection.", "attention.linear1."),
    ("inter_modal.label_projection.", "attention.linear2."),
    ("inter_modal.hidden.", "attention.hidden_linear."),
    ("inter_modal.score.", "attention.target_linear."),
    ("object_classifier.", "fc."),
    ("patch_classifier.", "fc2."),
    ("intra_modal.patch_query.linear.", "net1.0."),
    ("intra_modal.patch_query.norm.", "net1.1."),
    ("intra_modal.object_key.linear.", "net2.0."),
    ("intra_modal.object_key.norm.", "net2.1."),
    ("intra_modal.object_value.linear.", "net3.0."),
    ("intra_modal.object_value.norm.", "net3.1."),
    ("intra_modal.context.linear.", "net4.0."),
    ("intra_modal.context.norm.", "net4.1."),
)
_RENAMED_IN_LAYER = (
    ("self_attention.", "self_attn."),
    ("feed_forward.0.", "linear1."),
    ("feed_forward.3.", "linear2."),
    ("attention_norm.", "norm1."),
    ("feed_forward_norm.", "norm2."),
)
_LAYER = re.compile(r"encoder\.(?:layers\.)?(\d+)\.(.*)")


def published_name(name: str) -> str:
    """The published name, without `module.`, of one of this project's parameters or buffers."""
    if match := _LAYER.fullmatch(name):
        return f"encoder.layers.{match[1]}.{_renamed(match[2], _RENAMED_IN_LAYER)}"
    return _renamed(name, _RENAMED)


def own_name(name: str) -> str:
    """This project's name of a published one (without `module.`)."""
    if match := _LAYER.fullmatch(name):
        return f"encoder.{match[1]}.{_renamed(match[2], [(b, a) for a, b in _RENAMED_IN_LAYER])}"
    return _renamed(name, [(published, own) for own, published in _RENAMED])


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This project's state dict from a published one; the position code is left out."""
    own = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.")
        if name == "position_embedding.pe":
            continue
        if re.fullmatch(r"net[1-4]\.0\.weight", name):
            tensor = tensor.flatten(1)
        own[own_name(name)] = tensor
    return own


def _renamed(name: str, pairs) -> str:
    for old, new in pairs:
        if name.startswith(old):
            return new + name[len(old) :]
    return name
