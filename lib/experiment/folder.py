"""The experiment folder `experiments/<model>_<data>/expN/`: made exclusively, then added to."""

import contextlib
import fcntl
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.files import append_line, write_text, writing
from lib.config import Config
from lib.experiment.history import draw_curves, read_history
from lib.experiment.tensorboard import TensorBoard

EXPERIMENTS_ROOT = Path("experiments")
FINISHED = "best EMA mAP"  # opens the last line of a finished run's log
LAST_OF_HEAD = "config: "  # opens the last line before those of the epochs
LOGGED_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")


class ExperimentLocked(UserError):
    """Another process is at work on a run."""


class Experiment:
    """Paths and log of one run; where not `writable`, as for all processes of a run but the first,
    nothing is added to them."""

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
        """Make the next free `expN`, which no other process can take too."""
        family = runs_folder(config, data_name)
        with writing(family):
            family.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                try:
                    (family / f"exp{number}").mkdir()
                    break
                except FileExistsError:
                    number += 1
        experiment = cls(family / f"exp{number}")
        experiment.lock()
        write_text(experiment.config_file, config.to_yaml())
        return experiment

    @classmethod
    def open(cls, path: str | Path) -> "Experiment":
        """Open the folder of a finished or running experiment, or a checkpoint file alone.

        What is made from a file alone is written beside it.
        """
        experiment = cls(path)
        if experiment.path.is_file():
            experiment = cls(experiment.path.parent)
            experiment.best_checkpoint = Path(path)
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
        """Keep other processes from training here, as long as this one lives.

        Raises `UserError` where one already does.
        """
        with writing(self.path):
            # not flock: the loading processes would inherit that, and outlive a killed run
            self._lock = open(self.lock_file, "w")
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                self._lock.close()
                raise ExperimentLocked(
                    f"{self.path}: another process is training here; wait for it, or end it"
                ) from None

    def begin(
        self,
        config: Config,
        command: Sequence[str],
        facts: Sequence[str],
        sizes: dict[str, int] | None,
    ) -> None:
        """Open `train.log` with what is needed to do the run again, and describe the run.

        Of an earlier run, the lines since its state was saved, with `sizes`, are left out; all
        those of epochs for None.
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
            print_line("nothing was saved of this run yet: beginning anew")
        if not self.log_file.exists():
            write_text(self.log_file, "\n".join([*head, f"{LAST_OF_HEAD}{settings}"]) + "\n")
        self._cut_back(sizes or {self.log_file.name: self._size_of_head()})

    def log(self, text: str) -> None:
        """Print a line and keep it in `train.log`."""
        if self.writable:
            print_line(text)
            append_line(self.log_file, text)

    def board(self, first_step: int) -> contextlib.AbstractContextManager[TensorBoard]:
        """TensorBoard's events, in place of earlier ones from `first_step` on."""
        return TensorBoard(self.path if self.writable else None, first_step)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Keep the line of a `UserError` in `train.log` too, so that it says why the run ended, and
        let go of the folder in the end."""
        try:
            yield
        except UserError as error:
            if self.writable:
                with contextlib.suppress(UserError):  # of a full disk the first file counts
                    append_line(self.log_file, f"error: {error}")
            raise
        finally:
            if self.writable:
                self._lock.close()

    def add_history(self, row: dict[str, Any]) -> None:
        """Append an epoch's row to `history.jsonl`, and draw `curves.png` of all rows."""
        if self.writable:
            append_line(self.history_file, json.dumps(row))
            draw_curves(self.curves_file, read_history(self.history_file), str(self.path))

    def finish(self, best_score: float) -> None:
        """Write the line that a finished run's log ends with."""
        self.log(
            f"{FINISHED} {best_score:.4f}; next: python evaluate.py --exp-dir "
            f"{shlex.quote(str(self.path))}"
        )
        if self.writable:
            self.lock_file.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        if not self.log_file.is_file():
            return False
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return bool(lines) and lines[-1].startswith(FINISHED)

    @property
    def epochs_in_history(self) -> int:
        """Rows of `history.jsonl`."""
        return self.history_file.read_text().count("\n") if self.history_file.exists() else 0

    def sizes(self) -> dict[str, int]:
        """Bytes of the files that lines are added to, safely on the disk."""
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


def versions() -> str:
    """Python and the packages that numbers depend on."""
    packages = [f"{name} {metadata.version(name)}" for name in LOGGED_PACKAGES]
    return ", ".join([f"Python {platform.python_version()}", *packages])


def git_revision() -> str:
    """The commit of this code, with `+changes` where the tree differs; `unknown` outside git."""
    root = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(root)]
    try:
        revision = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+changes" if changes else "")


def command_line() -> list[str]:
    """The command that started this process."""
    return ["python", *sys.argv]
