"""A network: a backbone, and a head on its patch tokens.

Shapes: B images, C labels, P prefix tokens, N = H * W patches, D features, S image side.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones import Backbone
from models.heads import HEADS
from models.output import Output

HEAD_ELEMENTS = 2**28  # B x C x D of a head's largest tensors in eval mode: 1 GiB each in float32


class Classifier(nn.Module):
    """The head `name`, a key of `HEADS`, on `backbone`: normalised images (B, 3, S, S) -> `Output`.

    `settings` has the values of the head's flags (default: those of its class). `label_embeddings`
    (C, T) are fixed ones; None makes learned ones, where the head has any. `maps` are the names of
    the maps in its `Output`, the one that decides the score first; `label_parts` begin the names of
    those parts of its state that belong to the labels. Raises `ModelError` for settings that do
    not fit the backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        name: str,
        num_labels: int,
        settings: Mapping[str, Any] | None = None,
        label_embeddings: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        facts = {
            "num_features": backbone.num_features,
            "num_labels": num_labels,
            "grid": backbone.grid,
            "prefix_tokens": backbone.prefix_tokens,
            "label_embeddings": label_embeddings,
        }
        self.name, self.num_labels, spec = name, num_labels, HEADS[name]
        self.head: Any = spec.build(facts, settings or {})
        self.maps = spec.maps
        self.label_parts = tuple(f"head.{part}" for part in spec.label_parts)

    def forward(self, images: Tensor) -> Output:
        """Normalised images (B, 3, S, S) -> `Output`.

        In eval mode the head takes as many images at a time as `HEAD_ELEMENTS` allows.
        """
        tokens = self.backbone(images)
        if self.training or torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
            return self.head(tokens)
        at_once = max(1, HEAD_ELEMENTS // (self.num_labels * tokens.shape[2]))
        if len(tokens) <= at_once:
            return self.head(tokens)
        return Output.join([self.head(part) for part in tokens.split(at_once)])

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the patch grid."""
        return self.backbone.grid

    @property
    def token_shape(self) -> tuple[int, int]:
        """P + N tokens, D features."""
        height, width = self.grid
        return self.backbone.prefix_tokens + height * width, self.backbone.num_features
