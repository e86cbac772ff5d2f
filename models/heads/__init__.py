"""The peers' heads: each maps patch tokens to `Output`, as the method's own does.

Each is written from its paper, one file a head.
"""

from collections.abc import Callable
from typing import Any

from models.backbones import Backbone
from models.classifier import HeadOnBackbone
from models.heads.csra import CSRAHead
from models.heads.linear import LinearHead
from models.heads.ml_decoder import MLDecoderHead
from models.heads.q2l import Q2LHead

# the choices of --model, with the method's own: (backbone, number of labels, options) -> head
HEADS: dict[str, Callable[..., Any]] = {
    "linear": lambda backbone, labels: LinearHead(
        backbone.num_features, labels, prefix_tokens=backbone.prefix_tokens
    ),
    "csra": lambda backbone, labels, csra_heads, csra_lambda: CSRAHead(
        backbone.num_features,
        labels,
        num_heads=csra_heads,
        lam=csra_lambda,
        prefix_tokens=backbone.prefix_tokens,
    ),
    "ml_decoder": lambda backbone, labels: MLDecoderHead(
        backbone.num_features, labels, prefix_tokens=backbone.prefix_tokens
    ),
    "q2l": lambda backbone, labels, hidden_dim: Q2LHead(
        backbone.num_features,
        labels,
        backbone.grid,
        hidden_dim=hidden_dim,
        prefix_tokens=backbone.prefix_tokens,
    ),
}


def build_on(backbone: Backbone, name: str, num_labels: int, **options: Any) -> HeadOnBackbone:
    """The head `name` on a backbone; `options` are those of its row of `HEADS`."""
    return HeadOnBackbone(backbone, HEADS[name](backbone, num_labels, **options))
