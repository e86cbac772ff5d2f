"""ML-Decoder (Ridnik et al., WACV 2023): cross-attention of group queries, and a group-wise output.

Shapes: B images, C labels, N patches, P prefix tokens, D features, G groups, E embedding size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.decoder import DecoderLayer
from models.layers import Dropout
from models.output import Output

LARGEST_NUMBER_OF_GROUPS = 100


class MLDecoderHead(nn.Module):
    """One decoder layer without self-attention; its queries are fixed random vectors, as many as
    labels up to 100, each for a group of labels. The heatmap of a label is the attention of its
    group's query, averaged over the attention heads."""

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        num_groups: int | None = None,
        embedding_size: int = 768,
        num_heads: int = 8,
        feed_forward_size: int = 2048,
        dropout: float = 0.1,
        prefix_tokens: int = 0,
    ) -> None:
        super().__init__()
        num_groups = num_groups or min(num_labels, LARGEST_NUMBER_OF_GROUPS)
        self.num_labels, self.prefix_tokens = num_labels, prefix_tokens
        self.labels_of_group = math.ceil(num_labels / num_groups)
        self.embedding = nn.Linear(num_features, embedding_size)
        self.queries: Tensor
        self.register_buffer("queries", torch.randn(num_groups, embedding_size))
        self.query_norm = nn.LayerNorm(embedding_size)
        self.decoder = DecoderLayer(embedding_size, num_heads, feed_forward_size, dropout)
        self.dropout = Dropout(dropout)
        self.output = nn.Parameter(torch.empty(num_groups, embedding_size, self.labels_of_group))
        self.output_bias = nn.Parameter(torch.zeros(num_labels))
        nn.init.xavier_normal_(self.output)

    def forward(self, tokens: Tensor) -> Output:
        """Tokens (B, P + N, D) -> `Output`."""
        memory = F.relu(self.embedding(tokens))
        queries = self.queries.expand(memory.shape[0], -1, -1)  # for each image its own dropout
        queries = self.query_norm(queries + self.dropout(queries)).to(memory.dtype)
        groups, attention = self.decoder(queries, queries, memory, memory)
        outputs = torch.einsum("bge,gec->bgc", groups, self.output.to(groups.dtype)).flatten(1)
        logits = outputs[:, : self.num_labels] + self.output_bias
        by_label = attention.float().repeat_interleave(self.labels_of_group, dim=1)
        return Output(logits, None, by_label[:, : self.num_labels, self.prefix_tokens :], None)
