"""Going on with a run: which one, with which flags, and from which of its checkpoints."""

import contextlib
import dataclasses
import itertools
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.files import writing
from lib.common.flags import flag_name
from lib.config import RUNTIME_FLAGS, Config
from lib.experiment import checkpoint
from lib.experiment.folder import Experiment, ExperimentLocked, runs_folder
from lib.training.inputs import Inputs
from lib.training.step import TrainState
from models.weights import is_finite

AUTO = "auto"
OPEN_ENDED = ("StepLR", "ReduceLROnPlateau")  # schedules that are not laid out over the epochs


def planned_config(flags: dict[str, Any]) -> Config:
    """The configuration of the run that the `flags` of train.py ask for.

    `--resume EXP_DIR` takes the run's own. Raises `UserError`, naming the flag, for one that
    contradicts it.
    """
    folder = flags.get("resume")
    if folder in (None, AUTO):
        return Config(**flags)
    file = Experiment(folder).config_file
    if not file.is_file():
        raise UserError(f"--resume {folder}: no experiment of train.py: {file} is missing")
    run = Config.load(file, required=("weights",))  # which a published run does not say
    for name, value in flags.items():
        former = getattr(run, name)
        if name in RUNTIME_FLAGS or value == former:
            continue
        if name == "max_epochs" and value > former:
            if run.lr_scheduler in OPEN_ENDED:
                continue
            reason = f"its {run.lr_scheduler} is laid out over {former} epochs"
        else:
            reason = f"it was started {_described(name, former)}"
        raise UserError(
            f"{_described(name, value)[5:]} contradicts the run in {folder}: {reason}; leave the "
            "flag out, or start a new run without --resume"
        )
    return dataclasses.replace(run, **flags)


def find_run(config: Config, data_name: str, former: str | None) -> Experiment | None:
    """The run that `--resume` names, locked; None where a new one is to be made.

    What a launcher starts anew after a failure goes on with `former`, the run that it made.
    """
    if former is None and config.resume == AUTO:
        return _newest_unfinished(config, data_name)
    if former is None and config.resume is None:
        return None
    experiment = Experiment(former or config.resume)
    experiment.lock()
    return experiment


def latest_valid_checkpoint(experiment: Experiment) -> Path | None:
    """The newest intact state of a run; None where it was ended before it was first saved.

    A damaged `last.pth` is set aside for the one before it, with a warning.
    """
    last, former = experiment.last_checkpoint, experiment.previous_checkpoint
    if not last.exists() and not former.exists():
        if experiment.epochs_in_history > 1:
            raise UserError(f"{last}: no such checkpoint: the run cannot go on; start a new one")
        return None
    try:
        if last.exists():  # or the run was ended between two renames
            _require_state(last)
            return last
    except UserError as error:
        try:
            _require_state(former)
        except UserError as other:
            raise UserError(
                f"{error}; and {other}: the run cannot go on; start a new one, from its best "
                f"weights with --pretrained-model {experiment.path}"
            ) from other
        print_line(f"warning: {error}; going on from {former}")
        with writing(last):
            last.rename(_unused(last.with_name("last.damaged.pth")))
    _require_state(former)
    return former


def require_same(
    state: dict[str, Any],
    config: Config,
    experiment: Experiment,
    inputs: Inputs,
) -> None:
    """Raise `UserError` unless the run that `state` is of had these flags, labels and images."""
    for name, value in _fixed(config).items():
        former = state["config"].get(name, value)
        if value != former and not (name == "max_epochs" and value > former):
            raise UserError(
                f"{experiment.config_file}: says {name}: {value}, but the run was trained "
                f"{_described(name, former)}: restore that"
            )
    inputs.data.require_labels(state["labels"], f"--resume {experiment.path}")
    for name, digest in inputs.digests.items():
        if state["data"].get(name) != digest:
            file = inputs.data.path / f"{name}.txt"
            raise UserError(
                f"--resume {experiment.path}: {file} (or what it ignores) has changed since the "
                "run was started: restore it, or start a new run, with --pretrained-model "
                f"{experiment.path} from the weights of this one"
            )


def require_form(state: dict[str, Any], learner: TrainState, file: Path) -> None:
    """Raise `UserError` unless what `state` says of optimiser and schedule has the form of
    `learner`'s, so that no later step fails over it."""
    own = learner.state_dict()
    optimizer = state["optimizer"]
    parameters = [p for group in learner.optimizer.param_groups for p in group["params"]]
    moments = optimizer.get("state")
    fits = (
        _same_form(own["optimizer"]["param_groups"], optimizer.get("param_groups"))
        and _same_form(own["schedule"], state["schedule"])
        and _same_form(own["scaler"], state["scaler"])
        and isinstance(moments, dict)
        and all(
            number in range(len(parameters)) and _are_moments(values, parameters[number])
            for number, values in moments.items()
        )
    )
    if not fits:
        raise UserError(f"{file}: the state of another optimiser or schedule, or a damaged one")


def _are_moments(values: Any, parameter: Tensor) -> bool:
    """Whether an optimiser may have kept `values` of `parameter`: a number of `step`s, averages."""
    tensors = isinstance(values, dict) and all(
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.shape in ((), parameter.shape)
        and is_finite(value)
        for value in values.values()
    )
    return tensors and bool((torch.as_tensor(values.get("step", 0)) >= 0).all())


def _same_form(own: Any, found: Any) -> bool:
    """Whether `found` has the keys, lengths and types of `own`, whose None stands for anything."""
    if isinstance(own, dict):
        return isinstance(found, dict) and all(
            name in found and _same_form(value, found[name]) for name, value in own.items()
        )
    if isinstance(own, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(own) == len(found)
            and all(map(_same_form, own, found))
        )
    if isinstance(own, (int, float)) and not isinstance(own, bool):
        number = isinstance(found, (int, float)) and not isinstance(found, bool)
        return number and (math.isfinite(found) or not math.isfinite(own))
    return own is None or type(own) is type(found)


def _newest_unfinished(config: Config, data_name: str) -> Experiment | None:
    """The newest run of the same flags that is neither finished nor being worked on; locked."""
    numbers = {
        int(match[1]): path
        for path in runs_folder(config, data_name).glob("exp*")
        if (match := re.fullmatch(r"exp(\d+)", path.name))
    }
    for _, path in sorted(numbers.items(), reverse=True):
        experiment = Experiment(path)
        try:
            same = _fixed(Config.load(experiment.config_file)) == _fixed(config)
        except UserError:  # a folder of something else
            continue
        if same and not experiment.finished:
            with contextlib.suppress(ExperimentLocked):
                experiment.lock()
                return experiment
    return None


def _unused(file: Path) -> Path:
    """`file`, with a number where there is such a file already."""
    names = (file.with_suffix(f".{number}{file.suffix}") for number in itertools.count(2))
    return next(name for name in (file, *itertools.islice(names, 1000)) if not name.exists())


def _require_state(file: Path) -> None:
    state = checkpoint.load(file)
    kinds = {
        **dict.fromkeys(("model", "ema", "optimizer", "schedule", "scaler"), dict),
        **dict.fromkeys(("data", "config", "sizes"), dict),
        **dict.fromkeys(("rng", "labels"), list),
        **dict.fromkeys(("step", "epoch", "batch", "loss_count"), int),
        **dict.fromkeys(("epochs_without_better", "skipped_steps"), int),
        **dict.fromkeys(("loss_total", "lr", "best_score"), float),
    }
    for name, kind in kinds.items():
        if not isinstance(state.get(name), kind):
            raise UserError(f"{file}: not the state of a run of train.py: it lacks {name}")
        if kind is int and state[name] < 0 or kind is float and not math.isfinite(state[name]):
            raise UserError(f"{file}: a damaged state: {name} is {state[name]}")
    for part in ("model", "ema"):
        checkpoint.require_weights(state[part], f"{file}: a damaged state: {part}")
    sizes, unread = state["sizes"], state.get("bad_images", [])
    if not all(isinstance(size, int) and size >= 0 for size in sizes.values()):
        raise UserError(f"{file}: a damaged state: sizes are {sizes}")
    if not isinstance(unread, list) or not all(isinstance(path, str) for path in unread):
        raise UserError(f"{file}: a damaged state: bad_images are no paths")


def _fixed(config: Config) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in RUNTIME_FLAGS}


def _described(name: str, value: Any) -> str:
    """`with --lr 0.1`, or `without --pos`."""
    if value in (None, False):
        return f"without {flag_name(name)}"
    return f"with {flag_name(name)}{'' if value is True else f' {value}'}"
