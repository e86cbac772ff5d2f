"""Query2Label (Liu et al., 2021): a transformer whose decoder has one learned query for each label.

Shapes: B images, C labels, N patches, P prefix tokens, D features, E hidden size.
"""

import torch
from torch import Tensor, nn

from models import ModelError
from models.heads.decoder import DecoderLayer
from models.layers import EncoderLayer, ObjectClassifier, position_code
from models.output import Output


class Q2LHead(nn.Module):
    """Tokens are projected to `hidden_dim`; one encoder layer, then two decoder layers. The heatmap
    is the attention of the last one. Raises `ModelError` for a size that the heads do not divide.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        grid: tuple[int, int],
        *,
        hidden_dim: int | None = None,
        num_heads: int = 4,
        num_encoder_layers: int = 1,
        num_decoder_layers: int = 2,
        feed_forward_size: int | None = None,
        dropout: float = 0.1,
        prefix_tokens: int = 0,
    ) -> None:
        super().__init__()
        size = min(num_features, 2048) if hidden_dim is None else hidden_dim
        if size % num_heads or size % 2:
            raise ModelError(f"--hidden-dim {size}: must be a multiple of {num_heads} and even")
        feed_forward_size = feed_forward_size or 4 * size
        self.prefix_tokens = prefix_tokens
        self.projection = nn.Linear(num_features, size)
        code = torch.cat([torch.zeros(prefix_tokens, size), position_code(*grid, size)])
        self.register_buffer("position", code, persistent=False)
        self.queries = nn.Parameter(torch.randn(num_labels, size))
        self.encoder = nn.ModuleList(
            EncoderLayer(size, num_heads, False, feed_forward_size, dropout)
            for _ in range(num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(size, num_heads, feed_forward_size, dropout)
            for _ in range(num_decoder_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.classifier = ObjectClassifier(num_labels, size)

    def forward(self, tokens: Tensor) -> Output:
        """Tokens (B, P + N, D) -> `Output`."""
        patches = self.projection(tokens)
        for layer in self.encoder:
            patches = layer(patches, self.position)
        keys = patches + self.position
        labels = torch.zeros_like(self.queries).expand(tokens.shape[0], -1, -1)
        for layer in self.decoder:
            labels, attention = layer(labels, labels + self.queries, keys, patches)
        logits = self.classifier(self.norm(labels))
        return Output(logits, None, attention[..., self.prefix_tokens :].float(), None)
