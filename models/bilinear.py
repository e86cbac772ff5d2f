"""Inter-modal (bilinear) attention: which patches speak for which label.

Shapes: B images, C labels, N patches, D features, T text size, A attention size.
"""

import torch
from torch import Tensor, nn

BLOCK_ELEMENTS = {"cpu": 2**20, "cuda": 2**25}  # of one buffer: a cache's worth, or a launch's


def bilinear_attention(patches: Tensor, labels: Tensor, weight: Tensor, tau: float = 1.0) -> Tensor:
    """alpha = softmax over n of `weight . tanh(patches_n * labels_c) / tau`.

    `patches` (B, N, A) and `labels` (C, A) are the projected inputs U x and V e, `weight` (A,) is
    W^T w. Returns alpha (B, C, N), each row summing to 1, in float32 (float64 for such inputs).

    The method scores with `w . (W t + b) + b0`. No non-linearity stands between W and w, and a
    softmax ignores a constant, so `(W^T w) . t` gives the same alpha and gradients without the
    product of a (B, C, N, A) tensor with W. That tensor is not stored either: one label and a
    block of images at a time, and its tanh once more in the backward.
    """
    dtype = torch.promote_types(patches.dtype, torch.float32)
    with torch.autocast(patches.device.type, enabled=False):
        scores = _BlockedScores.apply(patches.to(dtype), labels.to(dtype), weight.to(dtype))
        return torch.softmax(scores / tau, dim=-1)


class _BlockedScores(torch.autograd.Function):
    """scores_bcn = sum over a of `weight_a tanh(patches_bna labels_ca)`, in blocks."""

    @staticmethod
    def forward(ctx, patches: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(patches, labels, weight)
        scores = patches.new_empty(len(patches), len(labels), patches.shape[1])
        for images in _blocks(patches):
            block = patches[images]
            joint = torch.empty_like(block)
            for column, label in enumerate(labels):
                torch.mul(block, label, out=joint).tanh_()
                scores[images, column] = joint @ weight
        return scores

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        patches, labels, weight = ctx.saved_tensors
        d_patches = torch.zeros_like(patches)
        d_labels, d_weight = torch.zeros_like(labels), torch.zeros_like(weight)
        for images in _blocks(patches):
            block = patches[images]
            joint, product = torch.empty_like(block), torch.empty_like(block)
            for column, label in enumerate(labels):
                d_scores = gradient[images, column]
                torch.mul(block, label, out=joint).tanh_()
                d_weight += d_scores.flatten() @ joint.flatten(0, 1)
                # from here on `joint` holds d_scores (1 - tanh^2), the derivative but for weight
                joint.square_().neg_().add_(1).mul_(d_scores[..., None])
                d_patches[images].addcmul_(joint, label * weight)
                d_labels[column] += torch.mul(joint, block, out=product).sum(dim=(0, 1)) * weight
        return d_patches, d_labels, d_weight


def _blocks(patches: Tensor) -> list[slice]:
    """Slices of the images, each with about `BLOCK_ELEMENTS` of the patches' elements."""
    elements = BLOCK_ELEMENTS.get(patches.device.type, BLOCK_ELEMENTS["cuda"])
    step = max(1, elements // max(1, patches[0].numel()))
    return [slice(start, start + step) for start in range(0, len(patches), step)]


class BilinearAttention(nn.Module):
    """Projects patches and label embeddings to one space and attends with `tanh(U x * V e)`."""

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
