"""What every network returns.

Shapes: B images, C labels, N = H * W patches.
"""

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """`logits` (B, C), the prediction; `object_logits` (B, C) of the method's auxiliary classifier,
    None for other heads; `attention` (B, C, N), the heatmaps: each sums to 1 over the patches of
    a network without prefix tokens."""

    logits: Tensor
    object_logits: Tensor | None
    attention: Tensor
