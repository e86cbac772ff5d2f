"""Runs of the project's commands for the checks of a device, in a folder with data/digits."""

import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from lib.common.cli import Parser, device_name

ROOT = Path(__file__).resolve().parents[1]
# the demo's training; a toy of a network in its place shows that a check itself works
DIGITS = (
    "--data digits --arch resnet10t --weights none --embed-type random --img-size 80 "
    "--output-stride 16 --augment none --pos --lamda 0.4 --lr 4e-4 --batch-size 16 --max-epochs 4 "
    "--ema-decay 0.98"
).split()
TOY = (
    "--data digits --arch test_resnet --weights none --embed-type random --img-size 32 "
    "--augment none --pos --lr 1e-3 --batch-size 8 --max-epochs 1 --limit 24 --workers 0"
).split()

# bfloat16 hidden, so that float16 is taken, whose loss scale starts too high for the first steps
FLOAT16 = """
import runpy, sys, torch
torch.cuda.is_bf16_supported = lambda *arguments, **options: False
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_arguments(description: str) -> Namespace:
    """The flags of a check that runs commands."""
    parser = Parser(description=description)
    parser.add_argument("--device", type=device_name, default="auto")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder with data/digits, for the experiments"
    )
    parser.add_argument("--toy", action="store_true", help="small networks, few images")
    parser.add_argument("--json", type=Path, help="write the results here too")
    return parser.parse_args()


def start(
    *command: object,
    cwd: Path,
    processes: int = 1,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    """Start a command of the project; several `processes`, which may share a GPU, by torchrun."""
    script, *flags = command
    program = [sys.executable]
    if processes > 1:
        program += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        program += [str(processes)]
    return subprocess.Popen(
        [*program, str(ROOT / str(script)), *map(str, flags)],
        cwd=cwd,
        env={**os.environ, "SGRE_SHARE_GPUS": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, codes: tuple[int, ...] = (0,)) -> str:
    """Wait for a command; its output. Raises `RuntimeError` for another exit code."""
    out, err = process.communicate()
    if process.returncode not in codes:
        lines = [line for line in err.splitlines() if line.strip()]
        own = [line for line in lines if "error: " in line]  # torchrun adds its own report
        raise RuntimeError(
            f"{' '.join(map(str, process.args))}: exit code {process.returncode}: "
            + " | ".join(own or lines[-12:])
        )
    return out


def run(
    *command: object,
    cwd: Path,
    processes: int = 1,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its end; its output."""
    return finish(start(*command, cwd=cwd, processes=processes, environment=environment))


def experiment_of(out: str) -> Path:
    """The experiment that a finished train.py names in its output."""
    return Path(re.findall(r"next: python evaluate.py --exp-dir (\S+)", out)[-1])


def history(experiment: Path) -> list[dict[str, float]]:
    """The rows of an experiment's history, one an epoch."""
    return [json.loads(line) for line in (experiment / "history.jsonl").read_text().splitlines()]


def in_float16(work: Path, script: str, *flags: object) -> tuple[object, ...]:
    """A command in which `--amp` means float16 on CUDA, whichever the GPU."""
    wrapper = work / "float16.py"
    wrapper.write_text(FLOAT16)
    return wrapper, ROOT / script, *flags
