"""The experiment folder `experiments/<model>_<data>/expN/`: created exclusively, then extended."""

import contextlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError, writing
from lib.common.failures import explain
from lib.common.files import append_line, write_text
from lib.common.locks import lock_file
from lib.config import Config
from lib.experiment import hub
from lib.experiment.history import draw_curves, read_history
from lib.experiment.provenance import git_revision, versions
from lib.experiment.tensorboard import TensorBoard

EXPERIMENTS_ROOT = Path("experiments")
FINISHED = "best EMA mAP"  # opens the last line of a finished run's log
LAST_OF_HEAD = "config: "  # opens the last line before those of the epochs


class ExperimentLocked(UserError):
    """Another process trains in an experiment folder."""


class Experiment:
    """Paths and logs of one run. Nothing is added to them if not `writable`, as on all ranks of a
    run but the main process."""

    def __init__(self, path: str | Path, writable: bool = True) -> None:
        self.path, self.writable = Path(path), writable
        self.config_file = self.path / "config.yaml"
        self.log_file = self.path / "train.log"
        self.history_file = self.path / "history.jsonl"
        self.curves_file = self.path / "curves.png"
        self.best_checkpoint = self.path / "checkpoints" / "best_ema_model.pth"
        self.last_checkpoint = self.path / "checkpoints" / "last.pth"
        self.previous_checkpoint = self.path / "checkpoints" / "last.prev.pth"
        self.lock_file = self.path / "train.lock"
        self.visualization = self.path / "visualization"

    @classmethod
    def create(cls, config: Config, data_name: str) -> "Experiment":
        """Create the next free `expN`, exclusively, and lock it."""
        runs = runs_folder(config, data_name)
        with writing(runs):
            runs.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                try:
                    (runs / f"exp{number}").mkdir()
                    break
                except FileExistsError:
                    number += 1
        experiment = cls(runs / f"exp{number}")
        experiment.lock()
        write_text(experiment.config_file, config.to_yaml())
        return experiment

    @classmethod
    def open(cls, path: str | Path) -> "Experiment":
        """Open the folder of a finished or running experiment, a checkpoint file alone, or an
        exported model, in a folder or on the Hub (`hf://user/name`).

        Results of a checkpoint file alone are written beside it, those of a model on the Hub below
        `experiments/hub/`.
        """
        weights = hub.weights_of(path)
        on_hub = hub.is_hub_name(path)
        folder = EXPERIMENTS_ROOT / "hub" / hub.short_name(str(path)) if on_hub else Path(path)
        alone = folder.is_file()
        experiment = cls(folder.parent if alone else folder)
        experiment.best_checkpoint = weights
        if alone or weights.name == hub.WEIGHTS:
            return experiment
        if not experiment.path.is_dir():
            raise UserError(f"--exp-dir {path}: no such folder; train.py prints the one it makes")
        for file in (experiment.config_file, experiment.best_checkpoint):
            if not file.is_file():
                raise UserError(
                    f"--exp-dir {path}: no experiment, or none with a trained epoch: {file} is "
                    "missing"
                )
        return experiment

    def lock(self) -> None:
        """Keep other processes from training here while this one lives.

        Raises `ExperimentLocked` if one already does.
        """
        with writing(self.path):
            self._lock = open(self.lock_file, "w")
            if not lock_file(self._lock):
                self._lock.close()
                raise ExperimentLocked(
                    f"{self.path}: another process is training here; wait for it, or end it"
                )

    def start_log(
        self,
        config: Config,
        command: Sequence[str],
        facts: Sequence[str],
        sizes: dict[str, int] | None,
    ) -> None:
        """Print and log what is needed to repeat the run.

        A resumed run's log and history are cut back to the `sizes` of its checkpoint; to the head
        of the log for None.
        """
        for leftover in self.last_checkpoint.parent.glob(".*"):  # of a write that was killed
            leftover.unlink()
        append_line(self.path.parent / "checkpoint.txt", f"{self.path.name}\t{shlex.join(command)}")
        write_text(self.config_file, config.to_yaml())
        head = [f"command: {shlex.join(command)}", f"versions: {versions()}"]
        head += [f"git revision: {git_revision()}", *facts]
        for line in head:
            print_line(line)
        settings = json.dumps(config.to_dict(), ensure_ascii=False)
        if self.log_file.exists() and sizes is None:
            print_line("no checkpoint of this run was saved yet: starting from the first epoch")
        if not self.log_file.exists():
            write_text(self.log_file, "\n".join([*head, f"{LAST_OF_HEAD}{settings}"]) + "\n")
        self._cut_back(sizes or {self.log_file.name: self._size_of_head()})

    def log(self, text: str) -> None:
        """Print a line and append it to `train.log`."""
        if self.writable:
            print_line(text)
            append_line(self.log_file, text)

    def tensorboard(self, first_step: int) -> TensorBoard:
        """TensorBoard's events; they replace earlier ones from `first_step` on."""
        return TensorBoard(self.path if self.writable else None, first_step)

    @contextlib.contextmanager
    def logging_errors(self) -> Iterator[None]:
        """Append the line of an error that is no bug to `train.log` too, and unlock the folder at
        the end."""
        try:
            yield
        except Exception as raised:
            if self.writable and (error := explain(raised)):
                with contextlib.suppress(UserError):  # on a full disk the first error counts
                    append_line(self.log_file, f"error: {error}")
            raise
        finally:
            if self.writable:
                self._lock.close()

    def add_history(self, row: dict[str, Any]) -> None:
        """Append an epoch's row to `history.jsonl`, and redraw `curves.png`."""
        if self.writable:
            append_line(self.history_file, json.dumps(row))
            draw_curves(self.curves_file, read_history(self.history_file), str(self.path))

    def finish(self, best_score: float) -> None:
        """Write the last line of a finished run's log."""
        self.log(
            f"{FINISHED} {best_score:.4f}; next: python evaluate.py --exp-dir "
            f"{shlex.quote(str(self.path))}"
        )
        if self.writable:
            self.lock_file.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end."""
        if not self.log_file.is_file():
            return False
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return bool(lines) and lines[-1].startswith(FINISHED)

    @property
    def epochs_in_history(self) -> int:
        """Rows of `history.jsonl`."""
        return self.history_file.read_text().count("\n") if self.history_file.exists() else 0

    def log_sizes(self) -> dict[str, int]:
        """Bytes of the log and the history, flushed to disk."""
        found = {}
        for file in (self.log_file, self.history_file):
            if file.exists():
                with writing(file), open(file, "rb+") as opened:
                    os.fsync(opened.fileno())
                    found[file.name] = os.fstat(opened.fileno()).st_size
        return found

    def _cut_back(self, sizes: dict[str, int]) -> None:
        for file in (self.log_file, self.history_file):
            size = sizes.get(file.name, 0)
            if file.exists() and file.stat().st_size > size:
                with writing(file):
                    os.truncate(file, size)

    def _size_of_head(self) -> int:
        size = 0
        for line in self.log_file.read_bytes().splitlines(keepends=True):
            size += len(line)
            if line.startswith(LAST_OF_HEAD.encode()):
                break
        return size


def runs_folder(config: Config, data_name: str) -> Path:
    """The folder that holds all runs of a model on a data set."""
    return EXPERIMENTS_ROOT / f"{config.model}_{data_name}"
