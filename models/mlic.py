"""The method's network: a backbone and the semantic-guided head on its patch tokens.

Shapes: B images, C labels, N = H * W patches, P prefix tokens, D features, T text size.
"""

import math

import torch
from torch import Tensor, nn

from models.backbones import Backbone
from models.bilinear import BilinearAttention
from models.classifier import Classifier
from models.errors import ModelError
from models.layers import (
    EncoderLayer,
    IntraModalAttention,
    ObjectClassifier,
    patch_classifier,
    position_code,
)
from models.output import ATTENTION, EVIDENCE, Output

ATTENTION_SIZE = 1024
LEARNED_TEXT_SIZE = 768


class MLIC(Classifier):
    """Multi-label image classifier with semantic-guided representation enhancement.

    `backbone` maps images to tokens (B, P + N, D). `label_embeddings` (C, T) is kept as a fixed
    buffer; None makes a learned one, (C, 768). Without `context`, an ablation, there is no
    intra-modal attention, and the patch classifier sees the patches alone. Raises `ModelError` if
    the heads do not divide D.
    """

    label_parts = ("object_classifier.", "patch_classifier.")
    maps = (EVIDENCE, ATTENTION)

    def __init__(
        self,
        backbone: Backbone,
        num_labels: int,
        label_embeddings: Tensor | None = None,
        *,
        num_layers: int = 1,
        num_heads: int = 8,
        position: bool = False,
        pre_norm: bool = False,
        tau: float = 1.0,
        context: bool = True,
    ) -> None:
        super().__init__(backbone)
        num_features = backbone.num_features
        if num_features % num_heads:
            raise ModelError(
                f"--num-heads {num_heads}: does not divide the backbone's {num_features} features"
            )
        if position and num_features % 2:
            raise ModelError(f"--pos: needs an even feature size, the backbone has {num_features}")
        if label_embeddings is None:
            learned = torch.empty(num_labels, LEARNED_TEXT_SIZE)
            nn.init.kaiming_uniform_(learned, a=math.sqrt(5))
            self.label_embeddings = nn.Parameter(learned)
        else:
            self.register_buffer("label_embeddings", label_embeddings.float())
        code = None
        if position:
            code = position_code(*backbone.grid, num_features)
            code = torch.cat([torch.zeros(backbone.prefix_tokens, num_features), code])
        self.register_buffer("position", code, persistent=False)
        self.encoder = nn.ModuleList(
            EncoderLayer(num_features, num_heads, pre_norm) for _ in range(num_layers)
        )
        self.inter_modal = BilinearAttention(
            num_features, self.label_embeddings.shape[1], ATTENTION_SIZE, tau
        )
        self.object_classifier = ObjectClassifier(num_labels, num_features)
        self.intra_modal = IntraModalAttention(num_features) if context else None
        self.patch_classifier = patch_classifier(num_features, num_labels, context=context)

    def classify(self, tokens: Tensor) -> Output:
        """The backbone's tokens (B, P + N, D) -> `Output`."""
        patches = tokens
        for layer in self.encoder:
            patches = layer(patches, self.position)
        alpha = self.inter_modal(patches, self.label_embeddings)
        objects = alpha.to(patches.dtype) @ patches
        object_logits = self.object_classifier(objects)
        if self.intra_modal:
            context = self.intra_modal(patches, objects)
            patches = torch.cat([patches, context], dim=-1)
        patch_logits = self.patch_classifier(patches)
        logits = patch_logits.amax(dim=1)
        first = self.backbone.prefix_tokens
        return Output(logits, object_logits, alpha[..., first:], patch_logits[:, first:].mT)
