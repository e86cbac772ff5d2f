"""Losses, as a sum and a number of entries, so that masks, accumulation and uneven ranks average
correctly.

Shapes: B images, C labels. Logits are any real numbers, targets in {0, 1}.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.output import Output

EPSILON = 1e-5
ASL_FACTOR = 1000


class LossSum(NamedTuple):
    """`total` over `num_entries` entries; the loss is `total / num_entries`."""

    total: Tensor
    num_entries: Tensor


LossFunction = Callable[[Tensor, Tensor, Tensor], LossSum]  # of logits, targets and ignore


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    ignore: Tensor | None = None,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 2.0,
    clip: float = 0.0,
) -> LossSum:
    """Asymmetric loss of (B, C) logits, scaled by 1000, as in the published code; in float32.

    With p = sigmoid(z) and q = min(1 - p + clip, 1): minus `y log max(p, 1e-5) + (1 - y) log
    max(q, 1e-5)`, weighted by `(1 - p y - q (1 - y)) ** (gamma_pos y + gamma_neg (1 - y))`,
    detached. Entries marked in `ignore` (B, C) are left out.
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
    return sum_loss(-ASL_FACTOR * weight * likelihood, ignore)


def binary_cross_entropy(logits: Tensor, targets: Tensor, ignore: Tensor | None = None) -> LossSum:
    """Binary cross entropy of (B, C) logits, in float32; `ignore` as in `asymmetric_loss`."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
    return sum_loss(losses, ignore)


def sum_loss(losses: Tensor, ignore: Tensor | None) -> LossSum:
    """Sum a loss of (B, C) entries over those that `ignore` (B, C) does not mark."""
    if ignore is None:
        return LossSum(losses.sum(), torch.tensor(losses.numel(), device=losses.device))
    return LossSum(losses.masked_fill(ignore, 0).sum(), (~ignore).sum())


# the choices of --loss
LOSSES: dict[str, Callable[..., LossSum]] = {"asl": asymmetric_loss, "bce": binary_cross_entropy}


def make_loss(name: str, settings: Mapping[str, Any]) -> LossFunction:
    """The loss `name`, with those of `settings` that are its keyword parameters.

    Raises `KeyError` for a name that is not in `LOSSES`.
    """
    function = LOSSES[name]
    parameters = inspect.signature(function).parameters.values()
    keywords = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    return partial(function, **{keyword: settings[keyword] for keyword in keywords})


def objective(
    loss: LossFunction, output: Output, targets: Tensor, ignore: Tensor, lamda: float
) -> LossSum:
    """The loss of the prediction, and `lamda` times that of the auxiliary object classifier, where
    the network has one."""
    found = loss(output.logits, targets, ignore)
    if output.object_logits is None:
        return found
    auxiliary = loss(output.object_logits, targets, ignore)
    return LossSum(found.total + lamda * auxiliary.total, found.num_entries)
