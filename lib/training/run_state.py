"""The state of a training run, to be written and taken back as one: plain types and tensors."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.common.errors import UserError
from lib.config import Config
from lib.data.bad_images import BadImages
from lib.experiment import checkpoint
from lib.experiment.folder import Experiment
from lib.runtime.device import get_rng_state, set_rng_state
from lib.runtime.world import World
from lib.training import resume
from lib.training.inputs import Inputs
from lib.training.step import TrainState
from lib.training.step_log import Progress


class RunState:
    """What moves in a run: `learner`, `progress` and `bad_images`, on the `inputs` of a `config`.

    All processes of `world` call its methods together; the first one writes.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        inputs: Inputs,
        learner: TrainState,
        progress: Progress,
        bad_images: BadImages,
    ) -> None:
        self.config, self.world, self.inputs = config, world, inputs
        self.learner, self.progress, self.bad_images = learner, progress, bad_images

    def save_best(self, experiment: Experiment) -> None:
        """Write the EMA model with all that inference needs."""
        if self.world.is_main_process:
            content = {
                "model": self.learner.ema.model.state_dict(),
                "labels": list(self.inputs.data.labels),
                "config": self.config.to_dict(),
            }
            checkpoint.save(experiment.best_checkpoint, content)

    def save_last(self, experiment: Experiment) -> None:
        """Write all that the run needs to go on from here, and keep what was written before.

        Raises `UserError` in all processes, and writes nothing, where the weights are not finite.
        """
        self._require_finite_weights()
        rng = self.world.gather(get_rng_state(self.world.device))
        if self.world.is_main_process:
            content = {
                **self.learner.state_dict(),
                **dataclasses.asdict(self.progress),
                "rng": rng,
                "labels": list(self.inputs.data.labels),
                "data": self.inputs.digests,
                "config": self.config.to_dict(),
                "sizes": experiment.sizes(),
                "bad_images": list(self.bad_images.reasons),
            }
            checkpoint.save(experiment.last_checkpoint, content, experiment.previous_checkpoint)

    def restore(self, state: dict[str, Any], file: Path) -> None:
        """Take back what `save_last` wrote to `file`, but for the random numbers."""
        resume.require_form(state, self.learner, file)
        try:
            self.learner.load_state_dict(state)
        except Exception as error:  # what comes from elsewhere can fail it in any way
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{file}: the state of another network or optimiser: {reason}"
            ) from error
        batches = len(self.inputs.train_batches)
        if state["epoch"] > self.config.max_epochs or state["batch"] > batches:
            raise UserError(
                f"{file}: a damaged state: epoch {state['epoch']}, batch {state['batch']} of "
                f"{self.config.max_epochs} epochs of {batches} batches"
            )
        for field in dataclasses.fields(Progress):
            setattr(self.progress, field.name, state[field.name])
        self.bad_images.reasons = dict.fromkeys(state.get("bad_images", ()))

    def seed_dropout(self, states: list[dict[str, Tensor]], file: Path | None) -> None:
        """Go on with the random numbers that `file` keeps of each process, or begin with other ones
        in each."""
        world = self.world
        if len(states) == world.world_size:
            try:
                set_rng_state(world.device, states[world.rank])
            except Exception as error:  # what comes from elsewhere can fail it in any way
                raise UserError(f"{file}: its random numbers are damaged") from error
        elif states or world.rank:
            torch.manual_seed(hash((self.config.seed, world.rank, self.learner.step)))

    def _require_finite_weights(self) -> None:
        """What a step made of the weights shows in the next one's loss only: not to be saved."""
        norm = torch.nn.utils.get_total_norm(self.learner.model.parameters()).item()
        if not math.isfinite(norm):
            with self.world.raise_on_all_ranks():
                raise UserError(
                    f"the weights have grown beyond float32 after step {self.learner.step} (lr "
                    f"{self.progress.lr:.2e}); they were not saved: lower --lr"
                )
