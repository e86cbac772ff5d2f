"""How far a run is, and what its training steps gave: read from the device every few steps, so that
it need not wait for the host after each one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from lib.common.errors import UserError
from lib.runtime.world import World

READ_EVERY = 10  # steps
NAMED_IMAGES = 5  # of a step that failed
MOST_SKIPPED = 50  # in a row: the scale is far below 1 by then


@dataclass
class Progress:
    """How far a run is: whole epochs, and batches of the one under way with their loss."""

    epoch: int = 0
    batch: int = 0
    loss_total: float = 0.0
    loss_count: int = 0
    lr: float = 0.0
    best_score: float = -1.0
    epochs_without_better: int = 0
    skipped_steps: int = 0

    @property
    def loss(self) -> float:
        """Mean training loss of the epoch so far."""
        return self.loss_total / max(self.loss_count, 1)

    def begin_epoch(self, epoch: int) -> None:
        """Go on to the first batch of `epoch`."""
        self.epoch, self.batch, self.loss_total, self.loss_count = epoch, 0, 0.0, 0
        self.skipped_steps = 0


class Step(NamedTuple):
    """One optimiser step: its `number` from 1, `epoch` from 0, rate, the entries that its loss is
    the mean of, this process's images (B,), -1 for none, and, on the device, this process's sum of
    the loss and the gradient's norm before clipping."""

    number: int
    epoch: int
    lr: float
    count: int
    index: Tensor
    loss_sum: Tensor
    gradient_norm: Tensor


class StepLog:
    """Takes steps, and reads them together: into `progress`, and to `heard`, with their loss.

    `paths` are those of the images, for what goes wrong. With `scaled` losses (float16), steps
    whose gradient is not finite are skipped by the scaler, and are counted; `MOST_SKIPPED` in a row
    are too many.
    """

    def __init__(
        self,
        world: World,
        progress: Progress,
        paths: Sequence[str],
        *,
        scaled: bool = False,
        heard: Callable[[Step, float], None] = lambda step, loss: None,
    ) -> None:
        self.world, self.progress, self.paths = world, progress, paths
        self.scaled, self.heard = scaled, heard
        self.steps: list[Step] = []
        self.skipped_in_a_row = 0

    def add(self, step: Step) -> None:
        """Note a step, and read the noted ones when there are several."""
        self.steps.append(step)
        if len(self.steps) >= READ_EVERY:
            self.read()

    def read(self) -> None:
        """Wait for the device and read what it gave; to be called before anything is saved.

        Raises `UserError`, in all processes, for a loss or gradient that is not finite: the weights
        have moved since, but those that were saved have not.
        """
        if not self.steps:
            return
        steps, self.steps = self.steps, []
        pairs = [torch.stack([step.loss_sum, step.gradient_norm]) for step in steps]
        own, norms = torch.stack(pairs, dim=1).cpu().double()
        sums = self.world.sum_(own.clone()).tolist()
        for number, (step, loss_sum, norm) in enumerate(
            zip(steps, sums, norms.tolist(), strict=True)
        ):
            if not math.isfinite(loss_sum):
                self._refuse(step, "loss", loss_sum, mine=not math.isfinite(own[number]))
            if math.isfinite(norm):
                self.skipped_in_a_row = 0
            else:
                self.skipped_in_a_row += 1
                if not self.scaled or self.skipped_in_a_row == MOST_SKIPPED:
                    self._refuse(step, "gradient's norm", norm, mine=True)
                self.progress.skipped_steps += 1
            self.progress.loss_total += loss_sum
            self.progress.loss_count += step.count
            self.heard(step, loss_sum / max(step.count, 1))

    def _refuse(self, step: Step, what: str, value: float, mine: bool) -> NoReturn:
        """End all processes, naming the images of those for which it is `mine`."""
        rows = [row for row in step.index.tolist() if row >= 0] if mine else []
        names = sum(self.world.gather([self.paths[row] for row in rows]), [])
        more = f" and {len(names) - NAMED_IMAGES} more" if len(names) > NAMED_IMAGES else ""
        with self.world.raise_on_all_ranks():
            raise UserError(
                f"the {what} is {value} in epoch {step.epoch + 1}, step {step.number} (lr "
                f"{step.lr:.2e}); nothing was saved since: lower --lr, leave --amp out "
                "if it is there, and check --lamda, the gammas, the label embeddings, and the "
                f"images of that step: {', '.join(names[:NAMED_IMAGES])}{more}"
            )
        raise AssertionError("together() has raised")
