"""The names of published checkpoints, both ways; nothing else in the project knows them.

A published state dict is flat, each name behind `module.`, and differs from this project's so:

- the parts of the head have other names, and its four 1x1 convolutions a trailing axis;
- fixed label embeddings are not in it, the position code `pe` always is;
- TResNet's convolutions and norms are `0` and `1` of a sequence (of one inside another where the
  block blurs), its norms count no batches, and their scale is `|w| + 1e-5` (that of an in-place
  activated batch norm);
- Swin's downsampling ends a stage, where timm's begins the next; its attention masks are stored;
- it may hold the backbone's classifier, which nothing uses.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from models.classifier import Classifier
from models.layers import position_code

MODULE = "module."
POSITION_CODE = "position_embedding.pe"
SCALE_OFFSET = 1e-5
LABEL_EMBEDDINGS = "head.label_embeddings"

# ours -> published, tried in this order; each side begins a name
_RENAMED = (
    ("backbone.trunk.", "backbone."),
    ("head.label_embeddings", "embeddings"),
    ("head.inter_modal.patch_projection.", "attention.linear1."),
    ("head.inter_modal.label_projection.", "attention.linear2."),
    ("head.inter_modal.hidden.", "attention.hidden_linear."),
    ("head.inter_modal.score.", "attention.target_linear."),
    ("head.object_classifier.", "fc."),
    ("head.patch_classifier.", "fc2."),
    ("head.intra_modal.patch_query.linear.", "net1.0."),
    ("head.intra_modal.patch_query.norm.", "net1.1."),
    ("head.intra_modal.object_key.linear.", "net2.0."),
    ("head.intra_modal.object_key.norm.", "net2.1."),
    ("head.intra_modal.object_value.linear.", "net3.0."),
    ("head.intra_modal.object_value.norm.", "net3.1."),
    ("head.intra_modal.context.linear.", "net4.0."),
    ("head.intra_modal.context.norm.", "net4.1."),
)
_RENAMED_IN_LAYER = (
    ("self_attention.", "self_attn."),
    ("feed_forward.0.", "linear1."),
    ("feed_forward.3.", "linear2."),
    ("attention_norm.", "norm1."),
    ("feed_forward_norm.", "norm2."),
)
_LAYER = re.compile(r"(?:head\.encoder|encoder\.layers)\.(\d+)\.(.*)")
_CONVOLUTION_1X1 = re.compile(r"head\.intra_modal\.\w+\.linear\.weight")
_TRESNET_PART = re.compile(r"(backbone\.trunk\.body\..*?(?:conv|downsample\.)\d+)\.(conv|bn)\.")
_TRESNET_SEQUENCE = re.compile(r"(backbone\.body\..*?(?:conv|downsample\.)\d+)(?:\.0)?\.([01])\.")
_TRESNET_BLURRED = re.compile(r"(backbone\.trunk\.body\.layer[2-9]\.0)\.(conv[12])")
_TRESNET_NORM = re.compile(r"backbone\.trunk\.body\..*\.bn\.(\w+)")
_SWIN_DOWNSAMPLE = re.compile(r"(backbone\.(?:trunk\.)?layers)\.(\d+)\.downsample\.")
_COMPUTED_BY_PARTS = ("num_batches_tracked", "relative_position_index")


def is_published(content: Mapping[Any, Any]) -> bool:
    """Whether a loaded checkpoint is a flat state dict, as the published ones are."""
    return bool(content) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    )


def published_names(names: Collection[str]) -> dict[str, str]:
    """The published name of each of this project's `names`, those of a whole state."""
    return {name: MODULE + _published_name(name, names) for name in names}


def own_name(name: str) -> str:
    """This project's name of a published one, with or without `module.`."""
    name = name.removeprefix(MODULE)
    if match := _LAYER.fullmatch(name):
        return f"head.encoder.{match[1]}.{_renamed(match[2], _reversed(_RENAMED_IN_LAYER))}"
    if match := _TRESNET_SEQUENCE.match(name):
        part = "conv" if match[2] == "0" else "bn"
        name = f"{match[1]}.{part}.{name[match.end() :]}"
    return _renamed(_move_downsampling(name, 1), _reversed(_RENAMED))


def holds_label_embeddings(published: Mapping[str, Tensor]) -> bool:
    """Whether a published checkpoint has learned label embeddings; fixed ones are not in it."""
    return any(own_name(name) == LABEL_EMBEDDINGS for name in published)


def from_published(published: Mapping[str, Tensor], model: Classifier) -> dict[str, Tensor]:
    """The state dict of `model` from a published one.

    What published checkpoints do without (batch counters, Swin's position indices if not stored,
    fixed label embeddings) is taken from `model`. Names that it has no use for are left out, unless
    they belong to the encoder, whose layers a wrong config would lose without a word.
    """
    own = model.state_dict()
    learned = LABEL_EMBEDDINGS in dict(model.named_parameters())
    state = {}
    for published_name, tensor in published.items():
        name = own_name(published_name)
        if name in own or name.startswith("head.encoder."):
            state[name] = _from_published_tensor(name, tensor)
    for name, tensor in own.items():
        fixed = name == LABEL_EMBEDDINGS and not learned
        if fixed or name.endswith(_COMPUTED_BY_PARTS):
            state.setdefault(name, tensor)
    return state


def to_published(model: Classifier) -> dict[str, Tensor]:
    """The published state dict of `model`; scores are the same, if rounded otherwise.

    A TResNet's norm of negative scale, which the published form lacks, is turned round together
    with its convolution; one nearer to 0 than 1e-5 becomes 1e-5.
    """
    state = dict(model.state_dict())
    state |= {name: mask for name, mask in model.named_buffers() if name.endswith(".attn_mask")}
    if LABEL_EMBEDDINGS not in dict(model.named_parameters()):
        del state[LABEL_EMBEDDINGS]
    names = published_names(state)
    published = {
        names[name]: _to_published_tensor(name, tensor).contiguous()
        for name, tensor in _with_positive_scales(state).items()
        if not (_TRESNET_NORM.fullmatch(name) and name.endswith("num_batches_tracked"))
    }
    height, width = model.grid
    features = model.backbone.num_features
    code = position_code(height, width, features).mT.reshape(1, features, height, width)
    published[MODULE + POSITION_CODE] = code.contiguous()
    return published


def _from_published_tensor(name: str, tensor: Tensor) -> Tensor:
    if _CONVOLUTION_1X1.fullmatch(name) and tensor.ndim == 3 and tensor.shape[2] == 1:
        return tensor.squeeze(2)
    if (norm := _TRESNET_NORM.fullmatch(name)) and norm[1] == "weight":
        return tensor.abs() + SCALE_OFFSET
    return tensor


def _to_published_tensor(name: str, tensor: Tensor) -> Tensor:
    if _CONVOLUTION_1X1.fullmatch(name):
        return tensor.unsqueeze(2)
    if (norm := _TRESNET_NORM.fullmatch(name)) and norm[1] == "weight":
        return (tensor - SCALE_OFFSET).clamp(min=0)
    return tensor


def _with_positive_scales(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same TResNet without negative norm scales: a channel whose convolution, running mean and
    scale all change their sign gives what it gave."""
    turned = dict(state)
    for name, scale in state.items():
        if (norm := _TRESNET_NORM.fullmatch(name)) and norm[1] == "weight":
            sign = torch.where(scale < 0, -1.0, 1.0).to(scale)
            convolution = name.replace(".bn.weight", ".conv.weight")
            mean = name.replace(".bn.weight", ".bn.running_mean")
            turned[name] = scale * sign
            turned[mean] = state[mean] * sign
            turned[convolution] = state[convolution] * sign[:, None, None, None]
    return turned


def _published_name(name: str, names: Collection[str]) -> str:
    if match := _LAYER.fullmatch(name):
        return f"encoder.layers.{match[1]}.{_renamed(match[2], _RENAMED_IN_LAYER)}"
    if match := _TRESNET_PART.match(name):
        part = "0" if match[2] == "conv" else "1"
        sequence = f"{match[1]}.0" if _is_blurred(match[1], names) else match[1]
        name = f"{sequence}.{part}.{name[match.end() :]}"
    return _renamed(_move_downsampling(name, -1), _RENAMED)


def _is_blurred(convolution: str, names: Collection[str]) -> bool:
    """Whether a TResNet's convolution has a stride, and so a blur behind it: in the first block of
    a later layer the second of three, or the first of two."""
    match = _TRESNET_BLURRED.fullmatch(convolution)
    if not match:
        return False
    bottleneck = f"{match[1]}.conv3.conv.weight" in names
    return match[2] == ("conv2" if bottleneck else "conv1")


def _move_downsampling(name: str, stages: int) -> str:
    """Move the downsampling of a Swin to a later stage."""
    if match := _SWIN_DOWNSAMPLE.match(name):
        return f"{match[1]}.{int(match[2]) + stages}.downsample.{name[match.end() :]}"
    return name


def _reversed(pairs):
    return [(new, old) for old, new in pairs]


def _renamed(name: str, pairs) -> str:
    for old, new in pairs:
        if name.startswith(old):
            return new + name[len(old) :]
    return name
