"""From a configuration to a run that is ready to start: read, check, build, restore."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.config import Config
from lib.data.bad_images import BadImages
from lib.data.folder import DataFolder
from lib.data.loader import TrainingBatches, num_micro_batches
from lib.data.preparation.leakage import repeated_paths
from lib.experiment.checkpoint import load_model_checkpoint
from lib.experiment.folder import Experiment
from lib.experiment.hub import weights_of
from lib.experiment.network import build_model, build_normalizer
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
from lib.training.loaders import make_loaders
from lib.training.losses import make_loss
from lib.training.notes import notes_on
from lib.training.optim import make_optimizer
from lib.training.resume import (
    find_run,
    latest_valid_checkpoint,
    read_state,
    require_same_run,
    restore,
)
from lib.training.run import Run, RunState
from lib.training.schedules import make_schedule
from models import ModelError

STORE_KEY = "experiment"  # under which a launch keeps the path of its experiment for restarts


def prepare(config: Config, world: World) -> Run:
    """Make a run from its configuration: a new one, or the one that `--resume` names.

    The folder of a new run is created last. Raises `UserError` for anything that cannot work.
    """
    asked, config = config, dataclasses.replace(config, resume=None)

    # read: the data, and what the processes before have saved
    with world.raise_on_all_ranks():
        data = DataFolder.open(config.data)
        vectors = None
        if config.has_label_embeddings:
            centered = config.embed_norm == "center"
            vectors = data.label_embeddings(config.embed_type, centered=centered)
    train = world.once_per_machine(lambda: data.split("train"))
    validation = world.once_per_machine(lambda: data.split(config.select_on)).head(config.limit)
    restarted = world.store_get(STORE_KEY)
    found = _on_main(world, lambda: find_run(asked, data.name, restarted))
    file = world.broadcast_from_main(lambda: latest_valid_checkpoint(found) if found else None)

    # check: that the data can be trained on, and is what it was
    splits = train, validation
    with world.raise_on_all_ranks():
        for split in splits:
            split.require_known()
        _require_images_for_each(config.batch_size, config.accum_steps, world.world_size)
        saved = read_state(file) if file else None
        if saved and found:
            require_same_run(saved, found, config, data, splits)

    # build: the network, its optimiser and all else that a step needs
    _choose_kernels(world.device, config.tf32, config.deterministic)
    batches = TrainingBatches(
        len(train),
        config.batch_size,
        seed=config.seed,
        limit=config.limit,
        accum_steps=config.accum_steps,
        rank=world.rank,
        world_size=world.world_size,
    )
    with world.raise_on_all_ranks(), memory_guard():
        torch.manual_seed(config.seed)
        run = build_run(
            config, data.labels, vectors, world, steps_per_epoch=len(batches), is_new=not saved
        )
        _require_batch_statistics(run, batches.num_images)

    # restore: what the steps so far have changed
    state = run.state
    if saved and file and found:
        with world.raise_on_all_ranks(), memory_guard():
            restore(state, saved, file)
        print_line(f"resumed from step {state.step} of {found.path}")
    with memory_guard():
        run.network = world.wrap_ddp(run.network, _input_shape(run))
    _set_random_state(state.rng, config.seed, state.step, world)

    run.digests = {split.name: split.digest for split in splits}
    run.train_loader, run.validation_loader = make_loaders(
        config, world, state.model, batches, train, validation, state.bad_images
    )
    made = found or _on_main(world, lambda: Experiment.create(config, data.name))
    assert made  # created, where none was found
    run.experiment = made
    if world.is_main_process:
        world.store_set(STORE_KEY, str(made.path))
    with world.raise_on_all_ranks():
        if world.is_main_process:
            texts = *repeated_paths(data.path), *notes_on(run, len(batches))
            notes = (f"note: {text}" for text in texts)
            facts = [_describe(run, batches.num_images, len(validation)), *notes]
            made.start_log(config, command_line(), facts, state.sizes if saved else None)
    return run


def build_run(
    config: Config,
    labels: Sequence[str],
    label_embeddings: np.ndarray | None,
    world: World,
    *,
    steps_per_epoch: int,
    is_new: bool = True,
) -> Run:
    """Build all that a step needs, on the device of `world`; the loaders and the folder are missing
    still.

    `label_embeddings` (C, T) are fixed, None makes learned ones. The network of a run that is not
    new is random, since its state is loaded afterwards. Uses no collective operation, so that an
    error of one rank can be raised on all of them.
    """
    weights = config.weights  # of the backbone; those that are replaced need not be downloaded
    if not is_new or (config.pretrained_model and weights == "pretrained"):
        weights = "none"
    if weights not in ("pretrained", "none"):
        weights = str(weights_of(weights))
    model = build_model(config, len(labels), label_embeddings, weights)
    if is_new and config.pretrained_model:
        source = load_model_checkpoint(weights_of(config.pretrained_model))
        source.start(model, labels, keep_classifiers=config.keep_classifiers)
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
    state = RunState(
        model,
        Ema(model, config.ema_decay),
        optimizer,
        schedule,
        grad_scaler(world.device, config.amp),
        BadImages(config.max_bad_images),
    )
    network: nn.Module = model.head if config.cache_features else model
    if config.compile:
        network.compile()  # its state keeps its names, and copies of it are not compiled
    normalizer = build_normalizer(config, world.device)
    return Run(
        config,
        world,
        list(labels),
        network,
        nn.Identity() if config.cache_features else normalizer,
        make_loss(config.loss, config.to_dict()),
        state,
    )


def _choose_kernels(device: torch.device, tf32: bool, deterministic: bool) -> None:
    if tf32 and device.type == "cuda":
        allow_tf32()
    if deterministic:
        make_deterministic()
    elif device.type == "cuda":
        choose_fastest_convolutions()


def _on_main(world: World, make: Callable[[], Experiment | None]) -> Experiment | None:
    """Rank 0's experiment; read-only elsewhere."""
    made: list[Experiment | None] = [None]

    def make_path() -> Path | None:
        made[0] = make()
        return made[0].path if made[0] else None

    path = world.broadcast_from_main(make_path)
    if path is None:
        return None
    return made[0] or Experiment(path, writable=False)


def _require_images_for_each(batch_size: int, accum_steps: int, world_size: int) -> None:
    """Every rank must have an image of every micro-batch, except for the last short batch."""
    if batch_size < world_size:
        raise UserError(
            f"--batch-size {batch_size}: less than one image for each of the {world_size} "
            "processes; raise it, or start fewer (--nproc-per-node, or CUDA_VISIBLE_DEVICES)"
        )
    if accum_steps > batch_size // world_size:
        raise UserError(
            f"--accum-steps {accum_steps}: more micro-batches than the {batch_size // world_size} "
            "images that a process has of each batch"
        )


def _require_batch_statistics(run: Run, num_images: int) -> None:
    """BatchNorm needs more than one value per channel, also in the last short batch."""
    config, (height, width) = run.config, run.state.model.grid
    images = num_images % config.batch_size or config.batch_size
    micro_batches = num_micro_batches(images, config.accum_steps, run.world.world_size)
    values = max(1, images // micro_batches // run.world.world_size)
    values *= min(height * width, len(run.labels))
    if values == 1:
        remedy = "choose another" if num_images > 1 else "add images"
        raise UserError(
            f"--batch-size {config.batch_size}: leaves one image at a time, too little for batch "
            f"statistics (labels: {len(run.labels)}, patches: {height} x {width}); {remedy}"
        )


def _input_shape(run: Run) -> tuple[int, ...]:
    """The shape of one image, or of its tokens, as `run.network` takes it."""
    side = run.config.img_size
    return run.state.model.token_shape if run.config.cache_features else (3, side, side)


def _set_random_state(saved: Sequence[dict], seed: int, step: int, world: World) -> None:
    """Restore this rank's random state; without one, seed it differently on each rank."""
    if len(saved) == world.world_size:
        set_rng_state(world.device, saved[world.rank])
    elif saved or world.rank:
        torch.manual_seed(hash((seed, world.rank, step)))


def _describe(run: Run, train_images: int, validation_images: int) -> str:
    """A line on network, data and device for the log."""
    (height, width), config = run.state.model.grid, run.config
    size = sum(parameter.numel() for parameter in run.state.model.parameters()) / 1e6
    device = run.world.device.type
    if run.world.world_size > 1:
        device = f"{run.world.world_size} x {device}"
    return (
        f"{config.arch}: {size:.1f} M parameters, {height} x {width} patches; {train_images} train "
        f"and {validation_images} {config.select_on} images, {len(run.labels)} labels; on {device}"
    )
