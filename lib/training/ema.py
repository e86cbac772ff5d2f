"""Exponential moving average (EMA) of a model's whole state."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Keeps `model`, an average of another model's state: `e += (1 - decay) (w - e)`.

    Parameters and float buffers (BatchNorm statistics) are averaged, integers copied; the decay is
    constant.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.decay = decay
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """That of the average."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.model.load_state_dict(state)

    @torch.no_grad()
    def update(self, model: nn.Module, copy_weights: bool = False) -> None:
        """Move one step towards `model`'s state; with `copy_weights`, copy it."""
        averages, values = [], []
        for average, value in zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if average.is_floating_point() and not copy_weights:
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        if averages:
            torch._foreach_lerp_(averages, values, 1 - self.decay)
