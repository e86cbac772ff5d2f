"""The results of training steps: progress, the loss in TensorBoard, and what must end a run.

Read from the device every few steps, so that it does not have to wait for the host after each one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch

from lib.common.errors import UserError
from lib.experiment.tensorboard import TensorBoard
from lib.runtime.world import World
from lib.training.step import Step

READ_EVERY = 10  # steps
MAX_NAMED_IMAGES = 5  # in the error of a step that failed
MAX_SKIPPED_IN_A_ROW = 50  # the loss scale is far below 1 by then


@dataclass
class Progress:
    """How far a run is: complete epochs, and batches of the current one with their loss."""

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
        """Set to the first batch of `epoch`."""
        self.epoch, self.batch, self.loss_total, self.loss_count = epoch, 0, 0.0, 0
        self.skipped_steps = 0


class StepLog:
    """Collects steps and reads their results together, into `progress` and `board`.

    `paths` are those of the training images, for error messages. If losses are `scaled` (float16),
    the scaler skips steps whose gradient is not finite; they are counted, and
    `MAX_SKIPPED_IN_A_ROW` of them end the run.
    """

    def __init__(
        self,
        world: World,
        progress: Progress,
        paths: Sequence[str],
        board: TensorBoard,
        *,
        scaled: bool = False,
    ) -> None:
        self.world, self.progress, self.paths, self.board = world, progress, paths, board
        self.scaled = scaled
        self.steps: list[Step] = []
        self.skipped_in_a_row = 0

    def add(self, step: Step) -> None:
        """Record a step; reads the results of those recorded if there are several."""
        self.progress.lr, self.progress.batch = step.lr, step.batch + 1
        self.steps.append(step)
        if len(self.steps) >= READ_EVERY:
            self.read()

    def read(self) -> None:
        """Wait for the device and read the results so far; call it before anything is saved.

        Raises `UserError`, on all ranks, for a loss or gradient that is not finite: the weights
        have changed since, but those that were saved have not.
        """
        if not self.steps:
            return
        steps, self.steps = self.steps, []
        pairs = [torch.stack([step.loss_sum, step.grad_norm]) for step in steps]
        own, norms = torch.stack(pairs, dim=1).cpu().double()
        sums = self.world.sum_(own.clone()).tolist()
        results = zip(steps, sums, own.tolist(), norms.tolist(), strict=True)
        for step, loss_sum, own_loss_sum, norm in results:
            if not math.isfinite(loss_sum):
                self._refuse(step, "loss", loss_sum, own=not math.isfinite(own_loss_sum))
            if math.isfinite(norm):
                self.skipped_in_a_row = 0
            else:
                self.skipped_in_a_row += 1
                if not self.scaled or self.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
                    self._refuse(step, "gradient's norm", norm, own=True)
                self.progress.skipped_steps += 1
            self.progress.loss_total += loss_sum
            self.progress.loss_count += step.num_entries
            self.board.add_scalar("train/loss", loss_sum / max(step.num_entries, 1), step.number)
            self.board.add_scalar("train/lr", step.lr, step.number)

    def _refuse(self, step: Step, what: str, value: float, own: bool) -> NoReturn:
        """Raise on all ranks, naming the images of those ranks on which it is their `own`."""
        rows = [row for row in step.rows.tolist() if row >= 0] if own else []
        names = sum(self.world.gather([self.paths[row] for row in rows]), [])
        shown, more = names[:MAX_NAMED_IMAGES], len(names) - MAX_NAMED_IMAGES
        with self.world.raise_on_all_ranks():
            raise UserError(
                f"the {what} is {value} in epoch {step.epoch + 1}, step {step.number} (lr "
                f"{step.lr:.2e}); nothing was saved since: lower --lr, leave --amp out "
                "if it is there, and check --lamda, the gammas, the label embeddings, and the "
                f"images of that step: {', '.join(shown)}{f' and {more} more' if more > 0 else ''}"
            )
        raise AssertionError("raise_on_all_ranks() has raised")
