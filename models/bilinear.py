"""Inter-modal (bilinear) attention: which patches speak for which label.

Shapes: B images, C labels, N patches, D features, T text size, A attention size.
"""

import torch
from torch import Tensor, nn


def bilinear_attention(patches: Tensor, labels: Tensor, weight: Tensor, tau: float = 1.0) -> Tensor:
    """alpha = softmax over n of `weight . tanh(patches_n * labels_c) / tau`.

    `patches` (B, N, A) and `labels` (C, A) are the projected inputs U x and V e, `weight` (A,) is
    W^T w. Returns alpha (B, C, N), in float32, each row summing to 1.

    The method scores with `w . (W t + b) + b0`. No non-linearity stands between W and w, and a
    softmax ignores a constant, so `(W^T w) . t` gives the same alpha and gradients without the
    product of a (B, C, N, A) tensor with W.
    """
    joint = torch.tanh(patches[:, None] * labels[:, None])
    scores = (joint @ weight.to(joint.dtype)).float()
    return torch.softmax(scores / tau, dim=-1)


class BilinearAttention(nn.Module):
    """Projects patches and label embeddings to a common space and attends with `tanh(U x * V e)`."""

    def __init__(self, patch_size: int, text_size: int, attention_size: int, tau: float) -> None:
        super().__init__()
        self.tau = tau
        self.patch_projection = nn.Linear(patch_size, attention_size, bias=False)
        self.label_projection = nn.Linear(text_size, attention_size, bias=False)
        self.hidden = nn.Linear(attention_size, attention_size)
        self.score = nn.Linear(attention_size, 1)

    def forward(self, patches: Tensor, label_embeddings: Tensor) -> Tensor:
        """Patches (B, N, D), label embeddings (C, T) -> alpha (B, C, N)."""
        weight = self.score.weight[0] @ self.hidden.weight
        # b and b0 cancel in the softmax; this keeps their gradient at its exact value, zero,
        # where no gradient at all would spare them the weight decay of the published training
        constant = self.score.weight[0] @ self.hidden.bias + self.score.bias
        return bilinear_attention(
            self.patch_projection(patches),
            self.label_projection(label_embeddings),
            weight + 0 * constant,
            self.tau,
        )
