"""Runs the project's commands as a user does, and makes small data for them."""

import contextlib
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.fork_server import ROOT, ForkedProcess

TINY = "--arch test_resnet --weights none --embed-type random --img-size 32 --workers 0".split()
TRAIN = f"train.py {' '.join(TINY)} --data colors"
RUN = "experiments/mlic_colors/exp1"  # the first that TRAIN makes


class Result(NamedTuple):
    code: int
    out: str
    err: str


def run(*command: str | Path, cwd: Path, new_interpreter: bool = False) -> Result:
    """A command in a process of its own, with `cwd` as the working folder; a file or a line, with
    arguments, or `-c` and code."""
    (result,) = _run_each([os.environ], command, cwd, new_interpreter, None)
    return result


def run_together(
    processes: int,
    *command: str | Path,
    cwd: Path,
    timeout: float = 300,
    new_interpreter: bool = False,
) -> list[Result]:
    """A command in several processes that meet, each with its result; a file, or `-c` and code."""
    each = [{**os.environ, **environment} for environment in environments(processes)]
    return _run_each(each, command, cwd, new_interpreter, timeout)


def start(
    *command: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    new_interpreter: bool = False,
) -> ForkedProcess | subprocess.Popen:
    """A command that runs in the background; its outputs go to file descriptors."""
    words = command[0].split() if isinstance(command[0], str) else command[:1]
    first = words[0] if words[0] == "-c" else ROOT / words[0]
    arguments = [str(first), *map(str, [*words[1:], *command[1:]])]
    env = os.environ if env is None else env
    if new_interpreter or sys.platform != "linux":
        arguments = [sys.executable, *arguments]
        return subprocess.Popen(arguments, cwd=cwd, env=env, stdout=stdout, stderr=stderr)
    with open(os.devnull, "w") as null:
        outputs = [null.fileno() if one == subprocess.DEVNULL else one for one in (stdout, stderr)]
        return ForkedProcess(arguments, cwd, env, *outputs)


def _run_each(
    environments: Sequence[Mapping[str, str]],
    command: tuple[str | Path, ...],
    cwd: Path,
    new_interpreter: bool,
    timeout: float | None,
) -> list[Result]:
    with ThreadPoolExecutor(2 * len(environments)) as pool, contextlib.ExitStack() as stack:
        started = []
        for env in environments:
            (out, stdout), (err, stderr) = os.pipe(), os.pipe()
            process = start(
                *command,
                cwd=cwd,
                env=env,
                stdout=stdout,
                stderr=stderr,
                new_interpreter=new_interpreter,
            )
            stack.callback(process.kill)
            os.close(stdout)
            os.close(stderr)
            # all at once, or a full pipe of one would stop them all
            started.append((process, pool.submit(_read, out), pool.submit(_read, err)))
        return [
            Result(process.wait(timeout), out.result(), err.result())
            for process, out, err in started
        ]


def _read(descriptor: int) -> str:
    with open(descriptor) as file:
        return file.read()


def environments(processes: int) -> list[dict[str, str]]:
    """What a launcher tells each of the processes of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        {
            **{"RANK": str(rank), "LOCAL_RANK": str(rank)},
            **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes)),
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
        }
        for rank in range(processes)
    ]


def run_here(monkeypatch, capsys, *command: str | Path) -> Result:
    """A command inside this process, in the working folder: quicker, for many cases."""
    monkeypatch.setattr(sys, "argv", [command[0], *map(str, command[1:])])
    capsys.readouterr()
    code: int | str = 0
    try:
        runpy.run_path(str(ROOT / command[0]), run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    assert isinstance(code, int), code
    return Result(code, captured.out, captured.err)


class Here:
    """Runs commands inside this process, in the working folder. A command is a line; arguments that
    may have spaces follow it."""

    def __init__(self, monkeypatch, capsys) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def run(self, command: str, *more: str | Path) -> Result:
        return run_here(self.monkeypatch, self.capsys, *command.split(), *more)

    def __call__(self, command: str, *more: str | Path) -> Result:
        """Run a command that must succeed."""
        result = self.run(command, *more)
        assert result.code == 0, result.err
        return result

    def refused(self, where: str | Path, command: str, *more: str | Path) -> str:
        """Run a command that must end with code 2 and one line, which begins with `where`: the flag
        with its value, or the file with its line. Gives the line."""
        return refusal(self.run(command, *more), where)


class NoCapture:
    """Stands for pytest's `capsys` where a fixture of a wider scope runs a command."""

    def readouterr(self):
        return type("Captured", (), {"out": "", "err": ""})


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[Here]:
    """Runs commands inside this process in `folder`, for a fixture of a wider scope."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [])
        patch.setattr("lib.experiment.folder.draw_curves", lambda *arguments: None)
        yield Here(patch, NoCapture())


def error_line(result: Result) -> str:
    """The one line of an error of the user's, or an assertion that it was none."""
    assert result.code == 2, (result.code, result.out, result.err)
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if "error:" in line]
    assert len(lines) == 1, result.err
    return lines[0]


def refusal(result: Result, where: str | Path) -> str:
    """The line of an error of the user's without its command; it must begin with `where`."""
    line = error_line(result).partition(": error: ")[2]
    assert line.startswith((f"{where}: ", f"{where} ")), line
    assert not line.startswith(f"{where}: {where}: "), line
    return line


def error_where(result: Result) -> str:
    """What the error of the user's names first: a flag with its value, or a file with its line."""
    return error_line(result).partition(": error: ")[2].partition(": ")[0]


def make_data(
    folder: Path,
    images: int = 6,
    labels: tuple[str, ...] = ("red", "green", "blue"),
    name: str = "colors",
) -> Path:
    """`folder/data/<name>`: pictures with a square of each of their labels' colours."""
    data = folder / "data" / name
    (data / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        lines = []
        for index in range(images):
            pixels = random.integers(0, 60, (40, 48, 3), dtype=np.uint8)
            present = [c for c in range(len(labels)) if random.random() < 0.5]
            for column in present:
                x, y = random.integers(0, 30, 2)
                pixels[y : y + 10, x : x + 10, column % 3] = 250
            path = f"data/{name}/images/{split}{index}.png"
            Image.fromarray(pixels).save(folder / path)
            lines.append(f"{path}\t{','.join(labels[column] for column in present)}\n")
        (data / f"{split}.txt").write_text("".join(lines))
    (data / "label.txt").write_text("\n".join(labels) + "\n")
    return data


def make_experiment(folder: Path, *flags: str, name: str = "toy") -> Path:
    """`folder/experiments/<name>`, of a network with random weights for data/colors, or the --data
    of `flags`: no training."""
    from lib.config import Config
    from lib.experiment import checkpoint
    from lib.experiment.network import build_model

    config = Config.parse([*TINY, "--data", "colors", *flags])
    labels = (folder / "data" / config.data / "label.txt").read_text().split()
    file = folder / "data" / config.data / f"{config.embed_type}.npy"
    vectors = np.load(file) if file.exists() else None
    torch.manual_seed(0)
    model = build_model(config, len(labels), vectors, weights="none")
    experiment = folder / "experiments" / name
    file = experiment / "checkpoints" / "best_ema_model.pth"
    checkpoint.save_model(file, model, labels, config)
    (experiment / "config.yaml").write_text(config.to_yaml())
    return experiment
