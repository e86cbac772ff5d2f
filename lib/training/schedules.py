"""Learning rate schedules: PyTorch's, each with the moment at which it is stepped."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR


class Schedule:
    """A learning rate schedule; parameter groups keep the ratio between their rates.

    Subclasses are stepped after each optimiser step or after each epoch.
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler: Any = scheduler
        self.optimizer = scheduler.optimizer

    @property
    def lr(self) -> float:
        """The learning rate of the next optimiser step, without a backbone's own."""
        return self.optimizer.param_groups[0]["lr"]

    def after_step(self) -> None:
        """Call after each optimiser step."""

    def after_epoch(self, score: float | None) -> None:
        """Call after each epoch with its EMA mAP, if it was validated."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values, all that a resumed run needs."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.scheduler.load_state_dict(state)


class OneCycle(Schedule):
    """OneCycleLR over all optimiser steps of a run."""

    def __init__(
        self, optimizer: Optimizer, *, lr: float, total_steps: int, pct_start: float, **_: Any
    ) -> None:
        if pct_start * total_steps == 1:
            # PyTorch divides by the length of the rise, pct_start * total_steps - 1
            pct_start = min(pct_start + 1e-9, 1 - 1e-9)
        default = optimizer.defaults["lr"]
        rates = [group["lr"] / default * lr for group in optimizer.param_groups]
        super().__init__(
            OneCycleLR(optimizer, max_lr=rates, total_steps=total_steps, pct_start=pct_start)
        )

    def after_step(self) -> None:
        if self.scheduler.last_epoch + 1 < self.scheduler.total_steps:
            self.scheduler.step()


class StepDecay(Schedule):
    """StepLR: a tenth of the rate after every `step_size` epochs."""

    def __init__(self, optimizer: Optimizer, *, step_size: int, **_: Any) -> None:
        super().__init__(StepLR(optimizer, step_size=step_size, gamma=0.1))

    def after_epoch(self, score: float | None) -> None:
        self.scheduler.step()


class Plateau(Schedule):
    """ReduceLROnPlateau on the EMA mAP: a tenth of the rate after 2 validations without a better
    one."""

    def __init__(self, optimizer: Optimizer, **_: Any) -> None:
        super().__init__(ReduceLROnPlateau(optimizer, mode="max", patience=1))

    def after_epoch(self, score: float | None) -> None:
        if score is not None:
            self.scheduler.step(score)


# the choices of --lr-scheduler
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "OneCycleLR": OneCycle,
    "StepLR": StepDecay,
    "ReduceLROnPlateau": Plateau,
}
# schedules that do not depend on the number of epochs, so that a resumed run may have more
OPEN_ENDED = ("StepLR", "ReduceLROnPlateau")


def make_schedule(
    name: str,
    optimizer: Optimizer,
    *,
    lr: float,
    total_steps: int,
    pct_start: float = 0.2,
    step_size: int = 20,
) -> Schedule:
    """The schedule `name` of `SCHEDULES`; each takes the settings that it needs.

    Raises `KeyError` for an unknown name.
    """
    return SCHEDULES[name](
        optimizer, lr=lr, total_steps=total_steps, pct_start=pct_start, step_size=step_size
    )
