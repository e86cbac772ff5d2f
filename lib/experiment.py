"""The experiment folder `experiments/<model>_<data>/expN/`: made exclusively, then added to."""

import contextlib
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from lib.config import Config
from lib.errors import UserError
from lib.files import append_line, write_text, writing
from lib.progress import say

EXPERIMENTS_ROOT = Path("experiments")
LOGGED_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")


class Experiment:
    """Paths and log of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.log_file = self.path / "train.log"
        self.history_file = self.path / "history.jsonl"
        self.best_checkpoint = self.path / "checkpoints" / "best_ema_model.pth"
        self.last_checkpoint = self.path / "checkpoints" / "last.pth"
        self.visualization = self.path / "visualization"

    @classmethod
    def create(cls, config: Config, data_name: str, command: Sequence[str]) -> "Experiment":
        """Make the next free `expN`, which no other process can take too, and describe the run."""
        family = EXPERIMENTS_ROOT / f"{config.model}_{data_name}"
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
        line = shlex.join(command)
        write_text(experiment.config_file, config.to_yaml())
        append_line(family / "checkpoint.txt", f"{experiment.path.name}\t{line}")
        experiment.log(f"command: {line}")
        experiment.log(f"versions: {versions()}")
        experiment.log(f"git revision: {git_revision()}")
        settings = json.dumps(config.to_dict(), ensure_ascii=False)
        append_line(experiment.log_file, f"config: {settings}")
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

    def log(self, text: str) -> None:
        """Print a line and keep it in `train.log`."""
        say(text)
        append_line(self.log_file, text)

    @contextlib.contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Keep the line of a `UserError` in `train.log` too, so that it says why the run ended."""
        try:
            yield
        except UserError as error:
            append_line(self.log_file, f"error: {error}")
            raise

    def add_history(self, row: dict[str, Any]) -> None:
        """Append an epoch's row to `history.jsonl`."""
        append_line(self.history_file, json.dumps(row))


def versions() -> str:
    """Python and the packages that numbers depend on."""
    packages = [f"{name} {metadata.version(name)}" for name in LOGGED_PACKAGES]
    return ", ".join([f"Python {platform.python_version()}", *packages])


def git_revision() -> str:
    """The commit of this code, with `+changes` where the tree differs; `unknown` outside git."""
    root = Path(__file__).resolve().parents[1]
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
