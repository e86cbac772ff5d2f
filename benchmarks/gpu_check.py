"""Runs every check that needs a GPU, one after the other, and writes one table of their results.

Each check is a benchmark of this folder in a process of its own: one that fails, or takes too long,
does not stop the others. `scripts/gpu_check.sh` starts it.
"""

import contextlib
import multiprocessing
import operator
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.architectures import SIX
from lib.common.cli import Parser, positive_int, run_main
from lib.common.console import print_line
from lib.common.errors import writing
from lib.common.files import write_json, write_text
from lib.common.readers import read_json
from lib.common.text import table_lines

ROOT = Path(__file__).resolve().parents[1]
NAME = "gpu_check"  # of the files that it writes
# figures of the benchmarks, and what is aimed at
AIMS = {
    "attention_vs_literal": (">=", 10.0),
    "train_step_vs_literal": (">=", 4.0),
    "train_step_over_backbone": ("<=", 1.4),
    "train_memory_over_backbone": ("<=", 1.25),
}
REACHED = {">=": operator.ge, "<=": operator.le}


class Check(NamedTuple):
    """A benchmark with its flags on a GPU, and those of a toy; None: not run there."""

    name: str
    script: str
    flags: str | None
    toy: str | None = None
    seconds: int = 120  # that it may take


DEVICE, WORK = "--device {device}", "--device {device} --work {work}"
ATTENTION = f"{DEVICE} --batch-size 16 --num-labels 80 --num-patches 196 --size 1024 --repeats 10"
STEP = f"{DEVICE} --arch resnet101 --img-size 448 --num-labels 80 --batch-size 64 --repeats 5"
TOY_STEP = f"{DEVICE} --arch test_resnet --img-size 64 --batch-size 2 --num-labels 3 --repeats 1"
TOY_ATTENTION = f"{DEVICE} --batch-size 1 --num-labels 3 --num-patches 9 --size 16 --repeats 1"
TOY_ARCHS = "--archs test_resnet test_vit --img-size 160 --batch-size 2 --repeats 1"
# what tells the most comes first; compiling takes long, and comes last
CHECKS = (
    Check("kernel against float64", "kernel.py", DEVICE, f"{DEVICE} --toy"),
    Check("attention", "attention.py", f"{ATTENTION} --compile", TOY_ATTENTION),
    Check("attention in bfloat16", "attention.py", f"{ATTENTION} --dtype bfloat16"),
    *(Check(arch, "architectures.py", f"{DEVICE} --archs {arch}") for arch in SIX),
    Check("toy architectures", "architectures.py", None, f"{DEVICE} {TOY_ARCHS}"),
    Check("training step, --amp", "train_step.py", f"{STEP} --amp", f"{TOY_STEP} --amp"),
    Check("training step, float32", "train_step.py", STEP),
    Check("scores, --amp", "eval_step.py", f"{STEP} --amp", TOY_STEP),
    Check("scores, float32", "eval_step.py", STEP),
    Check("two processes", "processes.py", WORK, f"{WORK} --toy", seconds=240),
    Check("digits", "digits_training.py", WORK, f"{WORK} --toy", seconds=240),
    Check("loader", "loader.py", "--repeats 2", "--count 4 --img-size 64 --repeats 1"),
    Check("commands", "commands.py", WORK, f"{WORK} --toy", seconds=240),
    Check("devices", "devices.py", WORK, f"{WORK} --toy"),
    Check("training step, --amp --compile", "train_step.py", f"{STEP} --amp --compile"),
    Check("scores, --amp --compile", "eval_step.py", f"{STEP} --amp --compile"),
    Check("training step, float32 --compile", "train_step.py", f"{STEP} --compile"),
    Check("scores, float32 --compile", "eval_step.py", f"{STEP} --compile"),
)


class Done(NamedTuple):
    """A check that was run, or could not be: why it failed, and what its benchmark reported."""

    name: str
    seconds: float
    failure: str | None
    result: dict[str, Any] | None


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default=NAME, help="folder of the results")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: toys, to try the checks"
    )
    parser.add_argument(
        "--minutes", type=positive_int, default=8, help="after which no check is started"
    )
    arguments = parser.parse_args()

    import benchmarks.steps  # noqa: F401  what the checks import, once for all of them

    deadline = time.monotonic() + 60 * arguments.minutes
    if arguments.device == "cuda":
        # one GPU: train.py would start a process on each that it sees
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or "0"
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
    probe = _forked(_probe, arguments.device)
    probe.join()
    if probe.exitcode:
        sys.exit(probe.exitcode)
    with writing(arguments.out):
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"{NAME}.log").touch()
    done: list[Done] = []
    with (
        tempfile.TemporaryDirectory() as work,
        open(arguments.out / f"{NAME}.log", "w") as log,
    ):
        _run([ROOT / "scripts" / "digits.py"], 120, work, log)
        for check in CHECKS:
            flags = check.flags if arguments.device == "cuda" else check.toy
            if flags is None:
                continue
            flags = flags.format(device=arguments.device, work=work)
            done.append(run_check(check, flags.split(), deadline, Path(work), log))
            print_line(f"{done[-1].name}: {done[-1].failure or 'ok'} ({done[-1].seconds:.0f} s)")
            write_results(arguments.out, done, AIMS if arguments.device == "cuda" else {})
    failures = [f"{one.name}: {one.failure}" for one in done if one.failure]
    print_line(f"\n{arguments.out}/{NAME}.md, .json and .log: {len(done)} checks")
    if failures:
        sys.exit("\n".join(["failed:", *failures]))


def run_check(
    check: Check, flags: Sequence[str], deadline: float, work: Path, log: IO[str]
) -> Done:
    """Run one benchmark, for as long as it may take and at most until `deadline`."""
    start = time.monotonic()
    if start >= deadline:
        return Done(check.name, 0, "not run: out of time", None)
    file = work / "result.json"
    file.unlink(missing_ok=True)
    command = [ROOT / "benchmarks" / check.script, *flags, "--json", file]
    failure = _run(command, min(check.seconds, deadline - start), work, log)
    result = read_json(file) if file.exists() else None
    return Done(check.name, time.monotonic() - start, failure, result)


def _run(command: Sequence[object], seconds: float, work: str | Path, log: IO[str]) -> str | None:
    """Run a script of the project in `work`; why it failed, or None."""
    log.write(f"\n== {' '.join(map(str, command))}\n")
    log.flush()
    start = log.tell()
    # forked, which spares each the seconds of the imports; this process has not touched the GPU
    process = _forked(_enter, list(map(str, command)), str(work), log.fileno())
    process.join(seconds)
    stopped = process.is_alive()
    if stopped:
        for pid in (*_descendants(process.pid or 0), process.pid or 0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.join()
    if stopped:
        return f"stopped after {seconds:.0f} s"
    if not process.exitcode:
        return None
    with open(log.name) as written:
        written.seek(start)
        lines = [line.strip() for line in written.read().splitlines() if line.strip()]
    return f"exit code {process.exitcode}: {lines[-1] if lines else 'no output'}"


def _forked(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def _descendants(pid: int) -> list[int]:
    """The processes that `pid` has started, and those that these have (on Linux)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in (child, *_descendants(child))]


def _probe(device: str) -> None:
    """In a process of its own: end with one line and exit code 2 if the device cannot be used."""
    from lib.runtime.device import select_device

    sys.argv[0] = f"{NAME}.sh"
    run_main(lambda: select_device(device) and None)


def _enter(command: list[str], work: str, log: int) -> None:
    """In the process of a check: become `command`, with its output in the log."""
    for output in (1, 2):
        os.dup2(log, output)
    sys.stdout, sys.stderr = (open(output, "w", 1, closefd=False) for output in (1, 2))
    os.chdir(work)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


Aims = Mapping[str, tuple[str, float]]


def write_results(folder: Path, done: Sequence[Done], aims: Aims) -> None:
    """Write the table so far, as Markdown and as JSON."""
    write_text(folder / f"{NAME}.md", "\n".join(_lines(done, aims)) + "\n")
    write_json(folder / f"{NAME}.json", [one._asdict() for one in done])


def _lines(done: Sequence[Done], aims: Aims) -> Iterator[str]:
    results = [one.result for one in done if one.result]
    if results:
        yield f"{results[0]['machine']}; {results[0]['versions']}"
        yield ""
    yield from table_lines(("check", "seconds", "figure", "value", "aim", ""), _rows(done, aims))
    yield from _feed(done)
    for one in done:
        if one.result and one.result["rows"]:
            yield from ("", f"**{one.name}**: {one.result['title']}", "")
            rows = one.result["rows"]
            yield from table_lines(list(rows[0]), [list(row.values()) for row in rows])
    failed = [one for one in done if one.failure]
    if failed:
        yield from ("", "Failed:", "")
        yield from (f"- {one.name}: {one.failure}" for one in failed)


def _rows(done: Sequence[Done], aims: Aims) -> list[tuple[object, ...]]:
    """A row for each figure of each check, or one for a check without figures."""
    rows: list[tuple[object, ...]] = []
    for one in done:
        state = "failed" if one.failure else "ok"
        first = (one.name, f"{one.seconds:.0f}")
        figures = one.result["figures"] if one.result else {}
        for name, value in figures.items():
            sign, aim = aims.get(name, ("", 0.0))
            missed = bool(sign) and not REACHED[sign](value, aim)
            aimed = f"{sign} {aim:g}" if sign else ""
            rows.append((*first, name, value, aimed, f"{state}, aim missed" if missed else state))
            first = ("", "")
        if not figures:
            rows.append((*first, "", "", "", state))
    return rows


def _feed(done: Sequence[Done]) -> Iterator[str]:
    """Whether the processor feeds the GPU: images per second of the loader and of a step."""
    results = {one.name: one.result for one in done if one.result}
    loader, step = results.get("loader"), results.get("training step, --amp")
    if loader and step:
        fed = {row["work"]: row["images/s"] for row in loader["rows"] if "workers" in row["work"]}
        taken = next(row["images/s"] for row in step["rows"] if row["form"] == "method")
        speeds = ", ".join(f"{work} {speed:.0f}" for work, speed in fed.items())
        yield from ("", f"Images per second: {speeds}; training step with --amp {taken:.0f}.")


if __name__ == "__main__":
    run_main(main)
