"""What every network returns, and the heatmaps in it.

Shapes: B images, C labels, N = H * W patches.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.heads import EVIDENCE


class Output(NamedTuple):
    """`logits` (B, C), the prediction; `object_logits` (B, C) of the method's auxiliary classifier,
    None for other heads; and two maps, of which a head has one or both, else None:

    `attention` (B, C, N): where a label looks. It sums to 1 over the patches of a network without
    prefix tokens. `evidence` (B, C, N): the logits of single patches from which the prediction
    comes. For the method that is their maximum (unless that of a kept class token, which has no
    cell, is larger), so the sigmoid of a cell is what its patch alone would score.
    """

    logits: Tensor
    object_logits: Tensor | None
    attention: Tensor | None
    evidence: Tensor | None

    @classmethod
    def join(cls, parts: Sequence["Output"]) -> "Output":
        """The output of all images from those of a few each, at least one."""
        columns: list[Any] = [
            None if some[0] is None else torch.cat(some) for some in zip(*parts, strict=True)
        ]
        return cls(*columns)

    def heatmaps(self, name: str) -> Tensor:
        """A map to look at (B, C, N), float32, which sums to 1: attention as it is, of evidence
        the softmax over the patches."""
        found = getattr(self, name).float()
        return torch.softmax(found, dim=-1) if name == EVIDENCE else found
