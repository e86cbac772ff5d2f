"""The results of training steps: the loss of an epoch, TensorBoard, and the checks that stop a run.

Read from the device every few steps, so that it does not have to wait for the host after each one.
"""

import math
from collections.abc import Sequence
from typing import NoReturn

import torch

from lib.common.errors import UserError
from lib.experiment.tensorboard import TensorBoard
from lib.runtime.world import World
from lib.training.run import RunState
from lib.training.step import Step

READ_EVERY = 10  # steps
MAX_NAMED_IMAGES = 5  # in the error of a step that failed
MAX_SKIPPED_IN_A_ROW = 50  # the loss scale is far below 1 by then


class StepLog:
    """Collects steps and reads their results together, into `state` and `board`.

    `paths` are those of the training images, for error messages. If losses are `scaled` (float16),
    the scaler skips steps whose gradient is not finite; they are counted, and
    `MAX_SKIPPED_IN_A_ROW` of them end the run.
    """

    def __init__(
        self,
        world: World,
        state: RunState,
        paths: Sequence[str],
        board: TensorBoard,
        *,
        scaled: bool = False,
    ) -> None:
        self.world, self.state, self.paths, self.board = world, state, paths, board
        self.scaled = scaled
        self.steps: list[Step] = []
        self.skipped_in_a_row = 0

    def add(self, step: Step) -> None:
        """Record a step; reads the results of those recorded if there are several."""
        self.state.lr, self.state.batch = step.lr, step.batch + 1
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
                self.state.skipped_steps += 1
            self.state.loss_total += loss_sum
            self.state.loss_count += step.num_entries
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
