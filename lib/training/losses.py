"""Losses, as a sum and a count, so that masks, accumulation and uneven ranks average rightly.

Shapes: B images, C labels. Logits are any real numbers, targets in {0, 1}.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5
ASL_FACTOR = 1000


class LossSum(NamedTuple):
    """`total` over `count` entries; the loss is `total / count`."""

    total: Tensor
    count: Tensor


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    ignore: Tensor | None = None,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 2.0,
    clip: float = 0.0,
) -> LossSum:
    """Asymmetric loss of (B, C) logits, 1000 times the mean in the literature, in float32.

    With p = sigmoid(z) and q = min(1 - p + clip, 1): minus `y log max(p, 1e-5) + (1 - y) log
    max(q, 1e-5)`, weighted by `(1 - p y - q (1 - y)) ** (gamma_pos y + gamma_neg (1 - y))`,
    through which no gradient flows. Entries marked in `ignore` (B, C) take no part.
    """
    logits, targets = logits.float(), targets.float()
    positive = logits.sigmoid()
    negative = (1 - positive + clip).clamp(max=1)
    likelihood = targets * positive.clamp(min=EPSILON).log()
    likelihood = likelihood + (1 - targets) * negative.clamp(min=EPSILON).log()
    with torch.no_grad():
        probability = positive * targets + negative * (1 - targets)
        gamma = gamma_pos * targets + gamma_neg * (1 - targets)
        weight = (1 - probability) ** gamma
    return _sum(-ASL_FACTOR * weight * likelihood, ignore)


def binary_cross_entropy(logits: Tensor, targets: Tensor, ignore: Tensor | None = None) -> LossSum:
    """Binary cross entropy of (B, C) logits, in float32."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
    return _sum(losses, ignore)


def _sum(losses: Tensor, ignore: Tensor | None) -> LossSum:
    if ignore is None:
        return LossSum(losses.sum(), torch.tensor(losses.numel(), device=losses.device))
    return LossSum(losses.masked_fill(ignore, 0).sum(), (~ignore).sum())
