"""From a configuration to a run that is ready to start: everything is read, checked and built."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.config import Config
from lib.data.bad_images import BadImages
from lib.data.loader import EvaluationLoader, TrainingLoader, num_micro_batches
from lib.experiment.folder import Experiment
from lib.experiment.hub import weights_of
from lib.experiment.network import build_model, build_preprocessing, config_notes, on_inputs
from lib.experiment.provenance import command_line
from lib.runtime.device import (
    allow_tf32,
    choose_fastest_convolutions,
    grad_scaler,
    make_deterministic,
    memory_guard,
    set_rng_state,
)
from lib.runtime.world import World
from lib.training.ema import Ema
from lib.training.inputs import Inputs
from lib.training.losses import make_loss
from lib.training.optim import make_optimizer
from lib.training.pretrained import start_from
from lib.training.resume import (
    find_run,
    latest_valid_checkpoint,
    require_position,
    require_same_run,
)
from lib.training.run_state import RunState
from lib.training.schedules import make_schedule
from lib.training.step import TrainState
from lib.training.step_log import Progress
from models.errors import ModelError

STORE_KEY = "experiment"  # under which a launch keeps the path of its experiment for restarts


@dataclass
class Run:
    """A run that is ready for `fit`, new or resumed, on one of its ranks."""

    config: Config
    world: World
    inputs: Inputs
    train_loader: TrainingLoader
    validation_loader: EvaluationLoader
    state: TrainState
    progress: Progress
    experiment: Experiment

    @property
    def bad_images(self) -> BadImages:
        return self.inputs.bad_images


def prepare(config: Config, world: World) -> Run:
    """Make a run from its configuration: a new one, or the one that `--resume` names.

    Creates the experiment folder last. Raises `UserError` for anything that cannot work.
    """
    resume, config = config, dataclasses.replace(config, resume=None)
    _choose_kernels(config, world.device)
    with world.raise_on_all_ranks():
        inputs = Inputs(config, world)
    restarted = world.store_get(STORE_KEY)
    found = _on_main(world, lambda: find_run(resume, inputs.data.name, restarted))
    file = world.broadcast_from_main(lambda: latest_valid_checkpoint(found) if found else None)

    progress = Progress()
    with world.raise_on_all_ranks(), memory_guard():
        saved = RunState.load(file) if file else None
        if saved and found:
            require_same_run(saved, config, found, inputs)
        torch.manual_seed(config.seed)
        state = build_train_state(
            config,
            inputs.data.labels,
            inputs.label_embeddings(),
            world,
            steps_per_epoch=len(inputs.train_batches),
            starting_weights=saved is None,
        )
        _require_batch_statistics(config, inputs, world, state.model.grid)
        if saved and file:
            saved.restore(state, progress, file)
            require_position(saved, config, len(inputs.train_batches), file)
            inputs.bad_images.load_state_dict(saved.bad_images)
    with memory_guard():
        image_shape = (3, config.img_size, config.img_size)
        shape = state.model.token_shape if config.cache_features else image_shape
        state.ddp_model = world.wrap_ddp(state.ddp_model, shape)
    if saved and found:
        print_line(f"resumed from step {state.step} of {found.path}")
    _set_random_state(config, world, state.step, saved, file)

    train_loader, validation_loader = inputs.loaders(state.model)
    experiment = found or _on_main(world, lambda: Experiment.create(config, inputs.data.name))
    assert experiment  # created, where none was found
    run = Run(config, world, inputs, train_loader, validation_loader, state, progress, experiment)
    if world.is_main_process:
        world.store_set(STORE_KEY, str(experiment.path))
    with world.raise_on_all_ranks():
        if world.is_main_process:
            total_steps = config.max_epochs * len(inputs.train_batches)
            notes = (f"note: {text}" for text in config_notes(config, state.model, total_steps))
            facts = [_describe(run), *notes]
            experiment.start_log(config, command_line(), facts, saved.sizes if saved else None)
    return run


def build_train_state(
    config: Config,
    labels: Sequence[str],
    label_embeddings: np.ndarray | None,
    world: World,
    *,
    steps_per_epoch: int,
    starting_weights: bool = True,
) -> TrainState:
    """Build all that an optimiser step changes, on the device of `world`.

    `label_embeddings` (C, T) are fixed, None makes learned ones. Without `starting_weights`, as for
    a state that is loaded afterwards, the network is random.

    Uses no collective operation, so that an error of one rank can be raised on all of them.
    """
    weights = config.weights  # of the backbone; those that are replaced need not be downloaded
    if not starting_weights or (config.pretrained_model and weights == "pretrained"):
        weights = "none"
    if weights not in ("pretrained", "none"):
        weights = str(weights_of(weights))
    model = build_model(config, len(labels), label_embeddings, weights)
    if starting_weights and config.pretrained_model:
        start_from(
            model,
            labels,
            config.pretrained_model,
            keep_classifiers=config.keep_classifiers,
        )
    if config.grad_checkpointing:
        try:
            model.backbone.enable_grad_checkpointing()
        except ModelError as error:
            raise UserError(f"--grad-checkpointing: {config.arch} {error}") from error
    model = world.convert_sync_bn(model).to(world.device).to(memory_format=torch.channels_last)
    if config.freeze_backbone:
        model.backbone.freeze()
    optimizer = make_optimizer(
        model,
        config.optimizer,
        lr=config.lr,
        weight_decay=config.weight_decay,
        true_weight_decay=config.true_weight_decay,
        backbone_lr_scale=config.backbone_lr_scale,
    )
    schedule = make_schedule(
        config.lr_scheduler,
        optimizer,
        lr=config.lr,
        total_steps=config.max_epochs * steps_per_epoch,
        pct_start=config.pct_start,
        step_size=config.step_size,
    )
    ema = Ema(model, config.ema_decay)
    part = on_inputs(model, config)
    if config.compile:
        part.compile()  # its state keeps its names, and copies of it are not compiled
    return TrainState(
        model=model,
        ddp_model=part,
        ema=ema,
        loss=make_loss(config.loss, config.to_dict()),
        optimizer=optimizer,
        schedule=schedule,
        scaler=grad_scaler(world.device, config.amp),
        preprocess=build_preprocessing(config, world.device),
        world=world,
    )


def _choose_kernels(config: Config, device: torch.device) -> None:
    if config.tf32 and device.type == "cuda":
        allow_tf32()
    if config.deterministic:
        make_deterministic()
    elif device.type == "cuda":
        choose_fastest_convolutions()


def _on_main(world: World, make: Callable[[], Experiment | None]) -> Experiment | None:
    """What the main process finds or creates; on the other ranks it is not writable."""
    made: list[Experiment | None] = [None]

    def make_path() -> Path | None:
        made[0] = make()
        return made[0].path if made[0] else None

    path = world.broadcast_from_main(make_path)
    if path is None:
        return None
    return made[0] or Experiment(path, writable=False)


def _require_batch_statistics(
    config: Config, inputs: Inputs, world: World, grid: tuple[int, int]
) -> None:
    """BatchNorm needs more than one value per channel, also in the last short batch."""
    total, labels = inputs.train_batches.num_images, len(inputs.data.labels)
    images = total % config.batch_size or config.batch_size
    micro_batches = num_micro_batches(images, config.accum_steps, world.world_size)
    values = max(1, images // micro_batches // world.world_size)
    values *= min(grid[0] * grid[1], labels)
    if values == 1:
        remedy = "choose another" if total > 1 else "add images"
        raise UserError(
            f"--batch-size {config.batch_size}: leaves one image at a time, too little for batch "
            f"statistics (labels: {labels}, patches: {grid[0]} x {grid[1]}); {remedy}"
        )


def _set_random_state(
    config: Config, world: World, step: int, saved: RunState | None, file: Path | None
) -> None:
    """Restore this rank's random state; without one, seed it differently on each rank."""
    states = saved.rng if saved else []
    if len(states) == world.world_size:
        try:
            set_rng_state(world.device, states[world.rank])
        except Exception as error:  # a damaged file can raise anything here
            raise UserError(f"{file}: its random numbers are damaged") from error
    elif states or world.rank:
        torch.manual_seed(hash((config.seed, world.rank, step)))


def _describe(run: Run) -> str:
    """A line on network, data and device for the log."""
    (height, width), config, inputs = run.state.model.grid, run.config, run.inputs
    size = sum(parameter.numel() for parameter in run.state.model.parameters()) / 1e6
    device = run.world.device.type
    if run.world.world_size > 1:
        device = f"{run.world.world_size} x {device}"
    return (
        f"{config.arch}: {size:.1f} M parameters, {height} x {width} patches; "
        f"{inputs.train_batches.num_images} train and {len(inputs.validation_split)} "
        f"{config.select_on} images, {len(inputs.data.labels)} labels; on {device}"
    )
