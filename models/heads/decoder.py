"""A decoder layer without self-attention, as ML-Decoder and Query2Label have it.

Shapes: B images, N tokens, Q queries (labels, or groups of them), E size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import Dropout, feed_forward, project_to_heads


class DecoderLayer(nn.Module):
    """Cross-attention of queries to tokens and a feed-forward, post-norm."""

    def __init__(self, size: int, num_heads: int, feed_forward_size: int, dropout: float) -> None:
        super().__init__()
        self.cross_attention = nn.MultiheadAttention(
            size, num_heads, dropout=dropout, batch_first=True
        )
        self.attention_norm = nn.LayerNorm(size)
        self.feed_forward = feed_forward(size, feed_forward_size, dropout)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.dropout = Dropout(dropout)

    def forward(
        self, states: Tensor, queries: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States and the queries that are made of them (B, Q, E), keys and values (B, N, E) ->
        states (B, Q, E) and attention (B, Q, N), averaged over the attention heads."""
        own = self.cross_attention
        query, key, value = project_to_heads(own, queries, keys, values)
        query = query / math.sqrt(query.shape[-1])  # before the product, or float16 may overflow
        attention = torch.softmax(query @ key.mT, dim=-1)
        attention = F.dropout(attention, own.dropout, self.training)
        mixed = own.out_proj((attention @ value).transpose(1, 2).flatten(2))
        states = self.attention_norm(states + self.dropout(mixed))
        states = self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))
        return states, attention.mean(dim=1)
