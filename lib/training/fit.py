"""Runs a prepared run: trains, validates, saves, and keeps the best checkpoint."""

import itertools
import shlex
import signal
import sys
import time

import torch

from lib.common.console import print_line, progress_bar
from lib.common.errors import UserError
from lib.common.rank_info import is_launched
from lib.common.signals import StopRequest
from lib.experiment import checkpoint
from lib.experiment.folder import Experiment
from lib.experiment.tensorboard import TensorBoard
from lib.runtime.device import get_rng_state
from lib.training.resume import save_state
from lib.training.run import Run
from lib.training.step import training_steps
from lib.training.step_log import StepLog
from lib.training.validate import validate

EARLY_STOP_PATIENCE = 3  # validations
COSTLY_SHARE, COSTLY_SECONDS = 0.3, 30.0  # of an epoch, and in all, from which validation is noted
SIGNAL_ECHO_SECONDS = 5.0  # within which a launcher passes on a signal that all ranks got


def fit(run: Run) -> Experiment:
    """Train to the last epoch, or to the early stop; returns the experiment.

    Raises `UserError` for what the user can mend: a loss that is not finite, unreadable images, a
    full disk, no memory, another rank that is gone. Raises `SystemExit` after SIGINT and SIGTERM,
    when the state is saved.
    """
    config, state, experiment = run.config, run.state, run.experiment
    with (
        experiment.logging_errors(),
        experiment.tensorboard(state.step + 1) as board,
        StopRequest(echo=SIGNAL_ECHO_SECONDS if is_launched() else 0.0) as stop,
    ):
        paths, scaled = run.train_loader.split.paths, state.scaler.is_enabled()
        log = StepLog(run.world, state, paths, board, scaled=scaled)
        epochs = range(state.epoch, config.max_epochs)
        noted = False
        for _ in progress_bar(epochs, "epochs", "epoch", initial=epochs.start, total=epochs.stop):
            if stops_early(run):
                break
            start = time.perf_counter()
            images_per_second = train_epoch(run, log, stop)
            trained = time.perf_counter()
            metrics = validate(run, stop) if is_validated(run) else {}
            leave_if_asked(run, log, stop)
            end = time.perf_counter()
            finish_epoch(run, board, metrics, images_per_second, end - start)
            if not noted and (note := cost_note(run, end - trained, end - start)):
                experiment.log(note)
                noted = True
            save_last(run, log)
            leave_if_asked(run, log, stop)
        if stops_early(run):
            experiment.log(f"stopped: {EARLY_STOP_PATIENCE} validations without a better EMA mAP")
        for line in state.bad_images.summary():
            experiment.log(line)
        experiment.finish(state.best_score)
    return experiment


def stops_early(run: Run) -> bool:
    """Whether --estop ends the run."""
    return run.config.estop and run.state.epochs_without_better >= EARLY_STOP_PATIENCE


def is_validated(run: Run) -> bool:
    """Whether a validation follows the current epoch."""
    number, config = run.state.epoch + 1, run.config
    return number % config.validate_every == 0 or number == config.max_epochs


def cost_note(run: Run, seconds: float, epoch_seconds: float) -> str | None:
    """What to do about a validation that takes a large part of an epoch."""
    if seconds < max(COSTLY_SECONDS, COSTLY_SHARE * epoch_seconds):
        return None
    flag = "--validate ema" if run.config.validate == "both" else "a larger --validate-every"
    return (
        f"note: validation took {seconds / epoch_seconds:.0%} of the epoch; {flag} makes it cheaper"
    )


def train_epoch(run: Run, log: StepLog, stop: StopRequest) -> float:
    """Train on the rest of the current epoch; returns images per second."""
    state, save_every = run.state, run.config.save_every
    total = len(run.train_loader)
    shards = run.train_loader.shards(state.epoch, state.batch)
    num_images, start = 0, time.perf_counter()
    title, first = f"epoch {state.epoch + 1}", state.batch
    with progress_bar(None, title, "batch", initial=first, total=total, leave=False) as bar:
        for step in training_steps(run, shards):
            log.add(step)
            log_bad_images(run)
            num_images += step.num_images
            loss = f"loss {state.loss:.3f}, " if state.loss_count else ""
            speed = num_images / (time.perf_counter() - start)
            bar.update(state.batch - bar.n)
            shown = f"{loss}lr {step.lr:.2e}, {speed:.1f} images/s"
            bar.set_postfix_str(shown, refresh=state.batch == total)
            if save_every and state.step % save_every == 0:
                save_last(run, log)
            leave_if_asked(run, log, stop)
    log.read()
    return num_images / (time.perf_counter() - start)


def finish_epoch(
    run: Run,
    board: TensorBoard,
    metrics: dict[str, float],
    images_per_second: float,
    seconds: float,
) -> None:
    """Step the schedule, keep the best weights, and log the epoch."""
    state, experiment, ema_score = run.state, run.experiment, metrics.get("mAP_ema")
    state.schedule.after_epoch(ema_score)
    better = ema_score is not None and ema_score > state.best_score
    if ema_score is not None:
        state.best_score = max(state.best_score, ema_score)
        state.epochs_without_better = 0 if better else state.epochs_without_better + 1
    if better and run.world.is_main_process:
        model = state.ema.model
        checkpoint.save_model(experiment.best_checkpoint, model, run.labels, run.config)

    number = state.epoch + 1
    validated = state.best_score >= 0  # if only in an earlier epoch
    best = {"best_mAP_ema": state.best_score} if validated else {}
    log_bad_images(run)
    experiment.add_history(
        {
            "epoch": number,
            "train_loss": state.loss,
            "lr": state.lr,
            **metrics,
            **best,
            "skipped_steps": state.skipped_steps,
            "images_per_second": images_per_second,
            "seconds": seconds,
        }
    )
    for name, value in metrics.items():
        board.add_scalar(f"validation/{name}", value, number)
    board.flush()
    skipped = f", {state.skipped_steps} steps skipped" if state.skipped_steps else ""
    scores = "".join(
        f", {title}mAP {metrics[name]:.4f}"
        for name, title in (("mAP", ""), ("mAP_ema", "EMA "))
        if name in metrics
    )
    experiment.log(
        f"epoch {number}/{run.config.max_epochs}: loss {state.loss:.3f}, lr "
        f"{state.lr:.2e}{scores}{' (best)' if better else ''}, "
        f"{images_per_second:.1f} images/s, {seconds:.0f} s{skipped}"
    )
    state.begin_epoch(number)


def log_bad_images(run: Run) -> None:
    """Log the unreadable images that were found since the last call."""
    for line in run.state.bad_images.new_lines():
        run.experiment.log(line)


def save_last(run: Run, log: StepLog) -> None:
    """Write `last.pth`, and keep the one before. Raises `UserError` on all ranks, and writes
    nothing, for results or weights that are not finite."""
    log.read()
    _require_finite_weights(run)
    run.state.rng = run.world.gather(get_rng_state(run.world.device))
    if run.world.is_main_process:
        run.state.sizes = run.experiment.log_sizes()
        save_state(run)


def leave_if_asked(run: Run, log: StepLog, stop: StopRequest) -> None:
    """Save and exit if any rank has received a signal."""
    signals = (signal.SIGINT, signal.SIGTERM)
    received = run.world.sum(*(int(stop.signum == signum) for signum in signals))
    if not any(received):
        return
    save_last(run, log)
    print_line(
        f"stopped after step {run.state.step}; resume with: python train.py --resume "
        f"{shlex.quote(str(run.experiment.path))}"
    )
    sys.exit(128 + next(itertools.compress(signals, received)))


def _require_finite_weights(run: Run) -> None:
    """Refuse weights that the last step made infinite; only the next step's loss would show it."""
    norm = torch.nn.utils.get_total_norm(run.state.model.parameters())
    if not norm.isfinite():
        with run.world.raise_on_all_ranks():
            raise UserError(
                f"the weights have grown beyond float32 after step {run.state.step} (lr "
                f"{run.state.lr:.2e}); they were not saved: lower --lr"
            )
