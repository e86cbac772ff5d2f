"""`last.pth`: the state of a run, as plain types and tensors, from which it can be resumed."""

import dataclasses
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.experiment import checkpoint
from lib.experiment.untrusted import (
    fits_optimizer,
    read_tensors,
    require_counts,
    require_weights,
    same_structure,
)
from lib.training.step import TrainState
from lib.training.step_log import Progress


@dataclass
class RunState:
    """The content of `last.pth`; each field is a key.

    `TrainState.state_dict` and the fields of `Progress`, then what is checked before a run is
    resumed: its `labels`, hashes of its splits (`data`) and `config`. `rng` holds each rank's
    random state, `sizes` the bytes of the log files, `bad_images` the unreadable images so far.
    """

    model: dict
    ema: dict
    optimizer: dict
    schedule: dict
    scaler: dict
    step: int
    epoch: int
    batch: int
    loss_total: float
    loss_count: int
    lr: float
    best_score: float
    epochs_without_better: int
    skipped_steps: int
    rng: list
    labels: list
    data: dict
    config: dict
    sizes: dict
    bad_images: list = field(default_factory=list)

    @classmethod
    def load(cls, file: Path) -> "RunState":
        """Read `file`. Raises `UserError` for anything but the state of a run."""
        content = read_tensors(file)
        values = {}
        for name, kind in typing.get_type_hints(cls).items():
            if name == "bad_images" and name not in content:  # of a run before it was kept
                continue
            if name not in content:
                raise UserError(f"{file}: not the state of a run of train.py: it lacks {name}")
            if not isinstance(content[name], kind):
                raise UserError(
                    f"{file}: a damaged state: {name} is a {type(content[name]).__name__}"
                )
            values[name] = content[name]
        require_counts(values, str(file))
        for part in ("model", "ema"):
            values[part] = checkpoint.with_current_names(values[part])
            require_weights(values[part], f"{file}: a damaged state: {part}")
        state = cls(**values)
        if not all(isinstance(size, int) and size >= 0 for size in state.sizes.values()):
            raise UserError(f"{file}: a damaged state: sizes are {state.sizes}")
        if not all(isinstance(path, str) for path in state.bad_images):
            raise UserError(f"{file}: a damaged state: bad_images are no paths")
        return state

    def save(self, file: Path, previous: Path) -> None:
        """Write `file` atomically; an existing one is kept as `previous`."""
        checkpoint.save(file, vars(self), previous)

    def restore(self, train_state: TrainState, progress: Progress, file: Path) -> None:
        """Load into `train_state` and `progress`; `file` is named in errors.

        Raises `UserError` for the state of another network or optimiser, so that no later step
        fails because of it.
        """
        own = train_state.state_dict()
        groups = train_state.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        if not (
            fits_optimizer(own["optimizer"], self.optimizer, parameters)
            and same_structure(own["schedule"], self.schedule)
            and same_structure(own["scaler"], self.scaler)
        ):
            raise UserError(f"{file}: the state of another optimiser or schedule, or a damaged one")
        try:
            train_state.load_state_dict(vars(self))
        except Exception as error:  # a damaged file can raise anything here
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{file}: the state of another network or optimiser: {reason}"
            ) from error
        for item in dataclasses.fields(Progress):
            setattr(progress, item.name, getattr(self, item.name))


def run_state(train_state: TrainState, progress: Progress, **others: Any) -> RunState:
    """The state of a run between two steps."""
    return RunState(**train_state.state_dict(), **dataclasses.asdict(progress), **others)
