"""A training run: builds everything from a `Config`, then trains, validates and keeps the best."""

import copy
import dataclasses
import itertools
import shlex
import signal
import sys
import time
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader

from lib.common.console import print_line, progress_bar
from lib.common.errors import UserError
from lib.common.rank_info import is_launched
from lib.common.signals import StopRequest
from lib.config import Config
from lib.data.bad_images import BadImages, without_unread
from lib.data.dataset import num_micro_batches
from lib.experiment import checkpoint
from lib.experiment.folder import Experiment, command_line
from lib.experiment.network import build_train_state, notes, prepare_for_inference
from lib.runtime.device import allow_tf32, make_deterministic
from lib.runtime.world import World
from lib.scoring.metrics import mean_average_precision
from lib.training import resume
from lib.training.inputs import Inputs
from lib.training.run_state import RunState
from lib.training.step import TrainState, gather, predict, train_one_epoch
from lib.training.step_log import Progress, Step, StepLog

PATIENCE = 3
EXPERIMENT = "experiment"  # of this launch, for those that it starts anew


class Trainer:
    """One run. Making it reads and checks everything; `fit` then makes the experiment folder, or
    goes on in that of an earlier run."""

    def __init__(self, config: Config, world: World) -> None:
        self.config, self.world = dataclasses.replace(config, resume=None), world
        self.progress = Progress()
        self.bad_images = BadImages(config.max_bad_images)
        if config.tf32:
            allow_tf32()
        if config.deterministic:
            make_deterministic()
        self.stop = StopRequest(echo=5.0 if is_launched() else 0.0)
        with world.raise_on_all_ranks():
            self.inputs = Inputs(config, world, self.bad_images)
        former = world.store_get(EXPERIMENT)
        self.experiment = self._from_first(
            lambda: resume.find_run(config, self.inputs.data.name, former)
        )
        file = world.broadcast_from_main(
            lambda: self.experiment and resume.latest_valid_checkpoint(self.experiment)
        )
        with world.raise_on_all_ranks():
            state = file and checkpoint.load(file)
            if state:
                resume.require_same(state, self.config, self.experiment, self.inputs)
            torch.manual_seed(config.seed)
            self.learner = self._make_learner(weights=state is None)
            self._require_statistics(self.learner.model.grid)
            self.run_state = RunState(
                self.config, world, self.inputs, self.learner, self.progress, self.bad_images
            )
            if state:
                self.run_state.restore(state, file)
        self.learner.network = world.wrap_ddp(self.learner.model, config.img_size)
        self.saved_sizes = state["sizes"] if state else None
        if state:
            print_line(f"going on after step {self.learner.step}, in {self.experiment.path}")
        self.run_state.seed_dropout(state["rng"] if state else [], file)

    def fit(self) -> Experiment:
        """Train to the end, or to the early stop. Gives the experiment with its best checkpoint."""
        progress = self.progress
        train_loader, validation_loader = self.inputs.loaders()
        self._open_experiment()
        self.steps = StepLog(
            self.world,
            progress,
            self.inputs.train_split.paths,
            scaled=self.learner.scaler.is_enabled(),
            heard=self._note,
        )
        first_step = self.learner.step + 1
        with self.experiment.working(), self.experiment.board(first_step) as board, self.stop:
            self.board = board
            epochs = range(progress.epoch, self.config.max_epochs)
            for _ in progress_bar(
                epochs, "epochs", "epoch", initial=epochs.start, total=epochs.stop
            ):
                if self._stops_early():
                    break
                self._run_epoch(train_loader, validation_loader)
            if self._stops_early():
                self.experiment.log(f"stopped: {PATIENCE} epochs without a better EMA mAP")
            for line in self.bad_images.summary():
                self.experiment.log(line)
            self.experiment.finish(progress.best_score)
        return self.experiment

    def _stops_early(self) -> bool:
        return self.config.estop and self.progress.epochs_without_better >= PATIENCE

    def _make_learner(self, weights: bool) -> TrainState:
        """The learner, with its starting `weights`, or as an empty form for those of a state."""
        config, inputs = self.config, self.inputs
        if not weights:
            config = dataclasses.replace(config, weights="none", pretrained_model=None)
        return build_train_state(
            config,
            inputs.data.labels,
            inputs.label_embeddings(),
            world=self.world,
            steps_per_epoch=len(inputs.train_batches),
        )

    def _require_statistics(self, grid: tuple[int, int]) -> None:
        """BatchNorm needs more than one value per channel, also in the last short batch."""
        images = self.inputs.train_batches.count % self.config.batch_size or self.config.batch_size
        parts = num_micro_batches(images, self.config.accum_steps, self.world.world_size)
        values = max(1, images // parts // self.world.world_size)
        values *= min(grid[0] * grid[1], len(self.inputs.data.labels))
        if values == 1:
            remedy = "choose another" if self.inputs.train_batches.count > 1 else "add images"
            raise UserError(
                f"--batch-size {self.config.batch_size}: leaves one image at a time, too little "
                f"for batch statistics (labels: {len(self.inputs.data.labels)}, patches: {grid[0]} "
                f"x {grid[1]}); {remedy}"
            )

    def _from_first(self, make: Callable[[], Experiment | None]) -> Experiment | None:
        """What the first process finds or makes; the others do not write there."""
        made: list[Experiment | None] = []
        path = self.world.broadcast_from_main(
            lambda: made.append(make()) or made[0] and made[0].path
        )
        return made[0] if made else path and Experiment(path, writable=False)

    def _open_experiment(self) -> None:
        """Make the folder, or bring that of an earlier run to where its state was saved."""
        config = self.config
        if self.experiment is None:
            self.experiment = self._from_first(
                lambda: Experiment.create(config, self.inputs.data.name)
            )
        if self.world.is_main_process:
            self.world.store_set(EXPERIMENT, str(self.experiment.path))
        with self.world.raise_on_all_ranks():
            if self.world.is_main_process:
                known = (f"note: {text}" for text in notes(config, self.learner.model))
                facts = [self._describe(), *known]
                self.experiment.begin(config, command_line(), facts, self.saved_sizes)
        self.bad_images.tell = self.experiment.log

    def _run_epoch(self, train_loader: DataLoader, validation_loader: DataLoader) -> None:
        """Train, validate, save what is to be saved, and report."""
        start = time.perf_counter()
        progress, experiment = self.progress, self.experiment
        self.inputs.train_batches.start(progress.epoch, progress.batch)
        speed = train_one_epoch(
            self.learner,
            train_loader,
            progress,
            self.steps,
            self._after_step,
            self.bad_images.meet,
        )
        raw, ema = self._validate(validation_loader)
        self.learner.schedule.after_epoch(ema)
        better = ema > progress.best_score
        progress.best_score = max(progress.best_score, ema)
        progress.epochs_without_better = 0 if better else progress.epochs_without_better + 1
        if better:
            self.run_state.save_best(self.experiment)

        number, seconds = progress.epoch + 1, time.perf_counter() - start
        row = {
            "epoch": number,
            "train_loss": progress.loss,
            "lr": progress.lr,
            "mAP": raw,
            "mAP_ema": ema,
            "best_mAP_ema": progress.best_score,
            "skipped_steps": progress.skipped_steps,
            "images_per_second": speed,
            "seconds": seconds,
        }
        experiment.add_history(row)
        for name in ("mAP", "mAP_ema"):
            self.board.add_scalar(f"validation/{name}", row[name], number)
        self.board.flush()
        skipped = f", {progress.skipped_steps} steps skipped" if progress.skipped_steps else ""
        experiment.log(
            f"epoch {number}/{self.config.max_epochs}: loss {progress.loss:.3f}, lr "
            f"{progress.lr:.2e}, mAP {raw:.4f}, EMA mAP {ema:.4f}{' (best)' if better else ''}, "
            f"{speed:.1f} images/s, {seconds:.0f} s{skipped}"
        )
        progress.begin_epoch(number)
        self._save_last()
        self._leave_if_asked()

    def _note(self, step: Step, loss: float) -> None:
        self.board.add_scalar("train/loss", loss, step.number)
        self.board.add_scalar("train/lr", step.lr, step.number)

    def _after_step(self) -> None:
        every = self.config.save_every
        if every and self.learner.step % every == 0:
            self._save_last()
        self._leave_if_asked()

    def _validate(self, loader: DataLoader) -> tuple[float, float]:
        """mAP of the raw and of the EMA model, over one pass."""
        split, learner = self.inputs.validation_split, self.learner
        models = [
            prepare_for_inference(copy.deepcopy(model), self.config.img_size)
            for model in (learner.model, learner.ema.model)
        ]
        how = (
            learner.normalizer,
            self.world.device,
            self.config.amp,
            "validate",
            self.bad_images.meet,
        )
        stream = predict(models, loader, *how)
        unless_stopped = itertools.takewhile(lambda _: not self.stop.signum, stream)
        scores, read = gather(unless_stopped, (len(models), *split.targets.shape))
        self._leave_if_asked()
        self.bad_images.agree(self.world)
        self.world.merge_(scores, read)
        split = without_unread(split, read)
        raw, ema = (
            mean_average_precision(scores[which], split.targets, split.ignore) for which in (0, 1)
        )
        return raw, ema

    def _leave_if_asked(self) -> None:
        """Save and end the run where any of its processes has got a signal."""
        signals = (signal.SIGINT, signal.SIGTERM)
        received = self.world.sum(*(int(self.stop.signum == signum) for signum in signals))
        if not any(received):
            return
        self._save_last()
        print_line(
            f"stopped after step {self.learner.step}; to go on: python train.py --resume "
            f"{shlex.quote(str(self.experiment.path))}"
        )
        sys.exit(128 + next(itertools.compress(signals, received)))

    def _describe(self) -> str:
        (height, width), model = self.learner.model.grid, self.learner.model
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        place = str(self.world.device.type)
        if self.world.world_size > 1:
            place = f"{self.world.world_size} x {place}"
        return (
            f"{self.config.arch}: {size:.1f} M parameters, {height} x {width} patches; "
            f"{self.inputs.train_batches.count} train and {len(self.inputs.validation_split)} "
            f"{self.config.select_on} images, {len(self.inputs.data.labels)} labels; on {place}"
        )

    def _save_last(self) -> None:
        self.steps.read()
        self.run_state.save_last(self.experiment)
