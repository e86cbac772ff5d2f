"""Which run `--resume` means, whether the flags agree with it, and its latest valid checkpoint."""

import contextlib
import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError, writing
from lib.common.flags import flag_name
from lib.config import RUNTIME_FLAGS, Config
from lib.experiment.folder import Experiment, ExperimentLocked, runs_folder
from lib.training.inputs import Inputs
from lib.training.run_state import RunState
from lib.training.schedules import OPEN_ENDED

AUTO = "auto"


def planned_config(flags: dict[str, Any]) -> Config:
    """The configuration of the run that the `flags` of train.py ask for.

    `--resume EXP_DIR` takes that of the run. Raises `UserError`, naming the flag, for one that
    contradicts it.
    """
    folder = flags.get("resume")
    if folder in (None, AUTO):
        return Config(**flags)
    file = Experiment(folder).config_file
    if not file.is_file():
        raise UserError(f"--resume {folder}: no experiment of train.py: {file} is missing")
    run = Config.load(file, required=("weights",))  # a published config has no such line
    for name, value in flags.items():
        previous = getattr(run, name)
        if name in RUNTIME_FLAGS or value == previous:
            continue
        if name == "max_epochs" and value > previous:
            if run.lr_scheduler in OPEN_ENDED:
                continue
            reason = f"its {run.lr_scheduler} depends on its {previous} epochs"
        else:
            reason = f"it was started {_described(name, previous)}"
        raise UserError(
            f"{_described(name, value)[5:]} contradicts the run in {folder}: {reason}; leave the "
            "flag out, or start a new run without --resume"
        )
    return dataclasses.replace(run, **flags)


def find_run(config: Config, data_name: str, restarted: str | None) -> Experiment | None:
    """The run that `--resume` names, locked; None if a new one must be made.

    After a restart by the launcher it is `restarted`, the run that the processes before made.
    """
    if restarted is None and config.resume == AUTO:
        return _latest_unfinished(config, data_name)
    folder = restarted or config.resume
    if folder is None:
        return None
    experiment = Experiment(folder)
    experiment.lock()
    return experiment


def latest_valid_checkpoint(experiment: Experiment) -> Path | None:
    """The latest valid `last.pth` or `last.prev.pth`; None if the run ended before the first save.

    A damaged `last.pth` is renamed, with a warning, and the previous one is taken.
    """
    last, previous = experiment.last_checkpoint, experiment.previous_checkpoint
    if not last.exists() and not previous.exists():
        if experiment.epochs_in_history > 1:
            raise UserError(f"{last}: no such checkpoint: cannot resume the run; start a new one")
        return None
    try:
        if last.exists():  # not if the run ended between two renames
            RunState.load(last)
            return last
    except UserError as error:
        try:
            RunState.load(previous)
        except UserError as other:
            raise UserError(
                f"{error}; and {other}: cannot resume the run; start a new one, from its best "
                f"weights with --pretrained-model {experiment.path}"
            ) from other
        print_line(f"warning: {error}; resuming from {previous}")
        with writing(last):
            last.rename(_unused(last.with_name("last.damaged.pth")))
    RunState.load(previous)
    return previous


def require_same_run(
    state: RunState, config: Config, experiment: Experiment, inputs: Inputs
) -> None:
    """Raise `UserError` unless the run of `state` had these flags, labels and images."""
    started = Config.from_dict(state.config, str(experiment.last_checkpoint))
    own = config.fixed_flags
    for name, previous in started.fixed_flags.items():
        value = own[name]
        if value != previous and not (name == "max_epochs" and value > previous):
            raise UserError(
                f"{experiment.config_file}: says {name}: {value}, but the run was trained "
                f"{_described(name, previous)}: restore that"
            )
    inputs.data.require_labels(state.labels, f"--resume {experiment.path}")
    if changed := changed_splits(state, inputs):
        file = inputs.data.path / f"{changed[0]}.txt"
        raise UserError(
            f"--resume {experiment.path}: {file} (or what it ignores) has changed since the run "
            "was started: restore it, or start a new run, with --pretrained-model "
            f"{experiment.path} from the weights of this one"
        )


def changed_splits(state: RunState, inputs: Inputs) -> list[str]:
    """The splits that are not those that the run of `state` read."""
    return [name for name, digest in inputs.digests.items() if state.data.get(name) != digest]


def require_position(state: RunState, config: Config, batches: int, file: Path) -> None:
    """Raise `UserError` if `state` is beyond the last epoch or the `batches` of an epoch."""
    if state.epoch > config.max_epochs or state.batch > batches:
        raise UserError(
            f"{file}: a damaged state: epoch {state.epoch}, batch {state.batch} of "
            f"{config.max_epochs} epochs of {batches} batches"
        )


def _latest_unfinished(config: Config, data_name: str) -> Experiment | None:
    """The latest run with the same flags that is neither finished nor in progress; locked."""
    numbers = {
        int(match[1]): path
        for path in runs_folder(config, data_name).glob("exp*")
        if (match := re.fullmatch(r"exp(\d+)", path.name))
    }
    for _, path in sorted(numbers.items(), reverse=True):
        experiment = Experiment(path)
        try:
            run = Config.load(experiment.config_file)
        except UserError:  # a folder of another kind
            continue
        same = run.fixed_flags == config.fixed_flags
        as_new = dataclasses.replace(run, exif=config.exif)
        if not same and as_new.fixed_flags == config.fixed_flags and not experiment.finished:
            print_line(
                f"note: {path} is unfinished, but was trained with --exif {run.exif}: pass that to "
                "resume it"
            )
        if same and not experiment.finished:
            with contextlib.suppress(ExperimentLocked):
                experiment.lock()
                return experiment
    return None


def _unused(file: Path) -> Path:
    """`file`, with a number if there is such a file already."""
    names = (file.with_suffix(f".{number}{file.suffix}") for number in itertools.count(2))
    return next(name for name in (file, *itertools.islice(names, 1000)) if not name.exists())


def _described(name: str, value: Any) -> str:
    """`with --lr 0.1`, or `without --pos`."""
    if value in (None, False):
        return f"without {flag_name(name)}"
    return f"with {flag_name(name)}{'' if value is True else f' {value}'}"
