"""`--resume`: which run it means, whether the flags agree with it, and its `last.pth`."""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError, writing
from lib.common.flags import flag_name
from lib.config import RUNTIME_FLAGS, Config
from lib.data.folder import DataFolder
from lib.data.split import Split
from lib.experiment import checkpoint
from lib.experiment.folder import Experiment, ExperimentLocked, runs_folder
from lib.training.run import Run, RunState
from lib.training.schedules import OPEN_ENDED

AUTO = "auto"
VERSION = 2  # of last.pth; the first had no number, and other names of the method's head
KEYS = {item.name for item in dataclasses.fields(RunState)} | {"labels", "data", "config"}


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


def save_state(run: Run) -> None:
    """Write `last.pth`, and keep the one before; on the main process."""
    experiment = run.experiment
    content = {
        "version": VERSION,
        **run.state.state_dict(),
        "labels": list(run.labels),
        "data": run.digests,
        "config": run.config.to_dict(),
    }
    checkpoint.save(experiment.last_checkpoint, content, experiment.previous_checkpoint)


def read_state(file: Path) -> dict[str, Any]:
    """The content of a `last.pth`. Raises `UserError` for another or a damaged file."""
    content = checkpoint.read_tensors(file)
    content.setdefault("bad_images", [])  # the first runs did not keep them
    if missing := KEYS - content.keys():
        raise UserError(f"{file}: not the state of a run of train.py: it lacks {min(missing)}")
    if content.get("version", 1) > VERSION:
        raise UserError(f"{file}: of a later version of this project: update it")
    for part in ("model", "ema"):
        content[part] = checkpoint.with_current_names(content[part])
    return content


def latest_valid_checkpoint(experiment: Experiment) -> Path | None:
    """`last.pth` or `last.prev.pth`, the latest that is valid; None if the run ended before the
    first save.

    A damaged `last.pth` is renamed, with a warning, and the previous one is taken.
    """
    last, previous = experiment.last_checkpoint, experiment.previous_checkpoint
    if not last.exists() and not previous.exists():
        if experiment.epochs_in_history > 1:
            raise UserError(f"{last}: no such checkpoint: cannot resume the run; start a new one")
        return None
    if not last.exists():  # the run ended between two renames
        read_state(previous)
        return previous
    try:
        read_state(last)
        return last
    except UserError as error:
        try:
            read_state(previous)
        except UserError as other:
            raise UserError(
                f"{error}; and {other}: cannot resume the run; start a new one, from its best "
                f"weights with --pretrained-model {experiment.path}"
            ) from other
        print_line(f"warning: {error}; resuming from {previous}")
        with writing(last):
            last.replace(last.with_name("last.damaged.pth"))
    return previous


def require_same_run(
    saved: Mapping[str, Any],
    experiment: Experiment,
    config: Config,
    data: DataFolder,
    splits: Iterable[Split],
) -> None:
    """Raise `UserError` unless the run of `saved` had these flags, labels and images."""
    started = Config.from_dict(saved["config"], str(experiment.last_checkpoint))
    own = config.fixed_flags
    for name, previous in started.fixed_flags.items():
        value = own[name]
        if value != previous and not (name == "max_epochs" and value > previous):
            raise UserError(
                f"{experiment.config_file}: says {name}: {value}, but the run was trained "
                f"{_described(name, previous)}: restore that"
            )
    data.require_labels(saved["labels"], f"--resume {experiment.path}")
    if changed := changed_splits(saved, splits):
        raise UserError(
            f"--resume {experiment.path}: {data.path / changed[0]}.txt (or what it ignores) has "
            "changed since the run was started: restore it, or start a new run, with "
            f"--pretrained-model {experiment.path} from the weights of this one"
        )


def changed_splits(saved: Mapping[str, Any], splits: Iterable[Split]) -> list[str]:
    """The splits that are not those that the run of `saved` read."""
    return [one.name for one in splits if not one.has_digest(saved["data"].get(one.name))]


def restore(state: RunState, saved: dict[str, Any], file: Path) -> None:
    """Load what `file` holds. Raises `UserError` for the state of another network or optimiser."""
    try:
        state.load_state_dict(saved)
    except Exception as error:  # PyTorch raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file}: the state of another network or optimiser: {reason}") from error


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
        if run.fixed_flags == config.fixed_flags and not experiment.finished:
            with contextlib.suppress(ExperimentLocked):
                experiment.lock()
                return experiment
    return None


def _described(name: str, value: Any) -> str:
    """`with --lr 0.1`, or `without --pos`."""
    if value in (None, False):
        return f"without {flag_name(name)}"
    return f"with {flag_name(name)}{'' if value is True else f' {value}'}"
