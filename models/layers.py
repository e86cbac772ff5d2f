"""The parts of the semantic-guided head around its bilinear attention.

Shapes: B images, C labels, N patches on an H x W grid, D features.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def position_code(height: int, width: int, num_features: int) -> Tensor:
    """Fixed 2-D sine code (H * W, D): rows in the first half of the channels, columns after.

    Positions 1..H are scaled to 2 pi; channel i of the F = D / 2 of an axis has the wavelength
    `10000 ** (2 * floor(i / 2) / F)` and is a sine where i is even, a cosine where it is odd.
    """
    per_axis = num_features // 2
    channel = torch.arange(per_axis)
    wavelength = 10000 ** (2 * (channel // 2).float() / per_axis)

    def axis(length: int) -> Tensor:
        position = torch.arange(1, length + 1).float() / (length + 1e-6) * 2 * math.pi
        angle = position[:, None] / wavelength
        return torch.where(channel % 2 == 0, angle.sin(), angle.cos())

    rows = axis(height)[:, None].expand(height, width, per_axis)
    columns = axis(width)[None].expand(height, width, per_axis)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


class Dropout(nn.Dropout):
    """PyTorch's dropout, with faster random numbers on CPUs.

    One draw gives 16 bits to each of four elements. PyTorch draws for each element, on AMD's
    processors in a single thread, which takes a tenth of the time of training a head.

    The share of zeros is `p`, below 1, rounded to a multiple of 2^-16.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        if not self.training or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        numbers = draws.view(torch.int16)[: input.numel()].view(input.shape)  # -2^15 to 2^15 - 1
        kept = numbers >= round(self.p * 2**16) - 2**15
        return input * kept.to(input.dtype).div_(1 - self.p)


def feed_forward(size: int, hidden_size: int, dropout: float) -> nn.Sequential:
    """The feed-forward of a transformer layer, (..., D) -> (..., D), with dropout inside."""
    return nn.Sequential(
        nn.Linear(size, hidden_size), nn.ReLU(), Dropout(dropout), nn.Linear(hidden_size, size)
    )


def project_to_heads(attention: nn.MultiheadAttention, *sources: Tensor) -> list[Tensor]:
    """The queries, keys and values of `attention` from their sources, each (B, N, D) -> (B, heads,
    N, D / heads).

    Calling `attention` gives the same, but for tokens in this order it multiplies image by image,
    or token by token without gradients, which takes up to twenty times as long.
    """
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    return [
        F.linear(source, weight, bias).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for source, weight, bias in zip(sources, weights, biases, strict=True)
    ]


class EncoderLayer(nn.Module):
    """One transformer layer; the position code enters queries and keys only."""

    def __init__(
        self,
        num_features: int,
        num_heads: int,
        pre_norm: bool,
        feed_forward_size: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attention = nn.MultiheadAttention(
            num_features, num_heads, dropout=dropout, batch_first=True
        )
        self.feed_forward = feed_forward(num_features, feed_forward_size, dropout)
        self.attention_norm = nn.LayerNorm(num_features)
        self.feed_forward_norm = nn.LayerNorm(num_features)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, position: Tensor | None) -> Tensor:
        """Tokens (B, N, D) and position code (N, D) or None -> tokens (B, N, D)."""
        if self.pre_norm:
            tokens = tokens + self._attend(self.attention_norm(tokens), position)
            return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))
        tokens = self.attention_norm(tokens + self._attend(tokens, position))
        return self.feed_forward_norm(tokens + self.dropout(self.feed_forward(tokens)))

    def _attend(self, tokens: Tensor, position: Tensor | None) -> Tensor:
        own = self.self_attention
        query = tokens if position is None else tokens + position
        query, key, value = project_to_heads(own, query, query, tokens)
        dropout = own.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.dropout(own.out_proj(mixed.transpose(1, 2).flatten(2)))


class ObjectClassifier(nn.Module):
    """One weight row and bias per label: (B, C, D) -> logits (B, C)."""

    def __init__(self, num_labels: int, num_features: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(num_features)
        self.weight = nn.Parameter(torch.empty(num_labels, num_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_labels).uniform_(-bound, bound))

    def forward(self, objects: Tensor) -> Tensor:
        return (objects * self.weight).sum(dim=-1) + self.bias


class ChannelProjection(nn.Module):
    """1x1 convolution without bias, BatchNorm over channels, ReLU, on tokens (B, N, D)."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, num_features, bias=False)
        self.norm = nn.BatchNorm1d(num_features)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm_relu(self.linear(tokens))

    def norm_relu(self, projected: Tensor) -> Tensor:
        """What follows the convolution."""
        return self.norm(projected.flatten(0, 1)).relu().view_as(projected)


class IntraModalAttention(nn.Module):
    """Gives each patch the object-level context that it belongs to."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.patch_query = ChannelProjection(num_features)
        self.object_key = ChannelProjection(num_features)
        self.object_value = ChannelProjection(num_features)
        self.context = ChannelProjection(num_features)

    def forward(self, patches: Tensor, objects: Tensor) -> Tensor:
        """Patches (B, N, D), object representations (B, C, D) -> context (B, N, D)."""
        query = self.patch_query(patches)
        key, value = self.object_key(objects), self.object_value(objects)
        with torch.autocast(query.device.type, enabled=False):
            # unscaled products of D terms leave the range of float16
            beta = torch.softmax(query.float() @ key.float().mT, dim=-1)
        beta = beta.to(value.dtype)
        if value.shape[1] < patches.shape[1]:  # the same, with fewer rows for the convolution
            return self.context.norm_relu(beta @ self.context.linear(value))
        return self.context(beta @ value)


def patch_classifier(
    num_features: int, num_labels: int, dropout: float = 0.5, *, context: bool = True
) -> nn.Sequential:
    """Classifies patches with their context, [x ; g] (B, N, 2D) -> logits (B, N, C); without
    `context` it takes x (B, N, D) alone."""
    return nn.Sequential(
        nn.Linear((1 + context) * num_features, 2 * num_features),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(2 * num_features, num_labels),
    )
