"""The method's head: semantic-guided representation enhancement.

Shapes: B images, C labels, N = H * W patches, P prefix tokens, D features, T text size.
"""

import math

import torch
from torch import Tensor, nn

from models import ModelError
from models.bilinear import BilinearAttention
from models.layers import (
    EncoderLayer,
    IntraModalAttention,
    ObjectClassifier,
    patch_classifier,
    position_code,
)
from models.output import Output

ATTENTION_SIZE = 1024
LEARNED_TEXT_SIZE = 768


class MLICHead(nn.Module):
    """Encoder, inter-modal (bilinear) attention, intra-modal attention and two classifiers.

    `label_embeddings` (C, T) are kept as a fixed buffer; None makes learned ones, (C, 768). `pos`
    adds the position code, `normalize_before` makes pre-norm encoder layers, `tau` is the
    temperature of the inter-modal attention. With `no_context`, an ablation, there is no
    intra-modal attention, and the patch classifier gets the patches alone. Raises `ModelError` if
    `num_heads` does not divide D, or for a position code of an odd D.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        grid: tuple[int, int],
        *,
        prefix_tokens: int = 0,
        label_embeddings: Tensor | None = None,
        num_layers: int = 1,
        num_heads: int = 8,
        pos: bool = False,
        normalize_before: bool = False,
        tau: float = 1.0,
        no_context: bool = False,
    ) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens
        if num_features % num_heads:
            raise ModelError(
                f"--num-heads {num_heads}: does not divide the backbone's {num_features} features"
            )
        if pos and num_features % 2:
            raise ModelError(f"--pos: needs an even feature size, the backbone has {num_features}")
        if label_embeddings is None:
            learned = torch.empty(num_labels, LEARNED_TEXT_SIZE)
            nn.init.kaiming_uniform_(learned, a=math.sqrt(5))
            self.label_embeddings = nn.Parameter(learned)
        else:
            self.register_buffer("label_embeddings", label_embeddings.float())
        code = None
        if pos:
            code = position_code(*grid, num_features)
            code = torch.cat([torch.zeros(prefix_tokens, num_features), code])
        self.register_buffer("position", code, persistent=False)
        self.encoder = nn.ModuleList(
            EncoderLayer(num_features, num_heads, normalize_before) for _ in range(num_layers)
        )
        self.inter_modal = BilinearAttention(
            num_features, self.label_embeddings.shape[1], ATTENTION_SIZE, tau
        )
        self.object_classifier = ObjectClassifier(num_labels, num_features)
        self.intra_modal = None if no_context else IntraModalAttention(num_features)
        self.patch_classifier = patch_classifier(num_features, num_labels, context=not no_context)

    def forward(self, tokens: Tensor) -> Output:
        """Tokens (B, P + N, D) -> `Output`."""
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
        first = self.prefix_tokens
        return Output(logits, object_logits, alpha[..., first:], patch_logits[:, first:].mT)
