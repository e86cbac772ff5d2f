"""The command line of all commands: parsers, types of flags, errors in one line, exit codes."""

import argparse
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from lib.common.errors import UserError
from lib.common.failures import explain, raise_open_files_limit
from lib.common.rank_info import rank_info
from lib.common.text import escape_controls

MAX_ERROR_LENGTH = 2000  # characters; untrusted names in a message may be of any length
HUB = "hf://"  # begins the name of a model on the Hugging Face Hub
DEVICES = "auto, cpu, cuda, cuda:1 (a GPU by its number) or mps"
# for libgomp: rounds that a thread spins before it sleeps. By its default, 300,000, threads that
# wait take the cores from other processes, and from the threads that they wait for.
SPIN_COUNT = "1000"
# what says it otherwise, for libgomp and for the OpenMP libraries of LLVM and Intel
SPIN_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
# how EXIF orientation is applied: upright, or not at all
EXIF = UPRIGHT, STORED = "upright", "stored"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviated flags that raises `UserError` on wrong usage."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')} (see --help)")


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run an entry point and exit with its code.

    0: done; 2: a `UserError`, a missing permission, or another failure of the environment that
    `lib.common.failures` knows, with one line on stderr and no traceback; 130 and 143: SIGINT and
    SIGTERM. Any other exception is a bug and keeps its traceback (1).
    """
    signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout is sys.__stdout__ and isinstance(sys.stdout.buffer, io.RawIOBase):
            # of PYTHONUNBUFFERED, which loses without an error what a full disk does not take
            encoding, buffer = sys.stdout.encoding, io.BufferedWriter(sys.stdout.detach())
            sys.stdout = io.TextIOWrapper(buffer, encoding, write_through=True)
        sys.stdout.reconfigure(errors="backslashreplace")  # names that a terminal cannot encode
    program = Path(sys.argv[0]).name
    try:
        if sys.platform == "win32":
            raise UserError("runs on Linux and macOS; on Windows, use WSL")
        raise_open_files_limit()
        let_waiting_threads_sleep()
        main()
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        _leave(128 + signal.SIGINT)
    except Exception as raised:
        if isinstance(raised, PermissionError) and raised.filename is not None:
            # a folder that may not be read, anywhere in the code
            raised = UserError(f"{raised.filename}: {raised.strerror}")
        error = explain(raised)
        if error is None:
            raise
        from lib.common.console import detach_stdout  # not at the top, so that --help is fast

        detach_stdout()
        _print_error(program, error)
        sys.unraisablehook = lambda unraisable: None  # PyTorch's loader, when it was half made
        _leave(2)
    _leave(0)


def let_waiting_threads_sleep() -> None:
    """Have OpenMP's threads sleep soon while they wait, unless the environment says how they wait.
    It counts where PyTorch is loaded later."""
    if not any(name in os.environ for name in SPIN_VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def _leave(code: int) -> NoReturn:
    """Exit; a launcher that stops this process meanwhile must not cause a traceback."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(code)


def at_least(least: int) -> Callable[[str], int]:
    """Type of a flag: a whole number of `least` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text}: must be {least} or more, a whole number")
        return value

    return parse


positive_int, non_negative_int = at_least(1), at_least(0)


def folder_path(text: str) -> Path:
    """Type of a flag: a folder whose path can be written in train.txt."""
    if text.startswith(HUB):
        raise argparse.ArgumentTypeError(
            f"{text}: evaluate.py and infer.py read models of the Hub; here, pass the folder that "
            "they write to"
        )
    if not text.strip() or set(text) & set("\t\n\r"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a path without tab or line end")
    return Path(text)


def fraction(text: str) -> float:
    """Type of a flag: a number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be between 0 and 1")
    return value


def comma_separated(text: str) -> list[str]:
    """Type of a flag: names separated by commas."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: must be names joined by commas")
    return names


def is_device(name: str) -> bool:
    """Whether `name` is one of `DEVICES`."""
    return bool(re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?|mps", name))


def device_name(text: str) -> str:
    """Type of a flag: one of `DEVICES`."""
    if not is_device(text):
        raise argparse.ArgumentTypeError(f"{text}: must be {DEVICES}")
    return text


def fraction_or_tuned(text: str) -> float | str:
    """Type of a flag: a number between 0 and 1, or `tuned`."""
    return text if text == "tuned" else fraction(text)


def _print_error(program: str, error: UserError) -> None:
    """Print the message as one line, if this is the process that must print it."""
    is_first = rank_info().local_rank == 0
    if error.printed_by == "another" or (error.printed_by == "first" and not is_first):
        return
    line = escape_controls(" ".join(str(error).split()))
    if len(line) > MAX_ERROR_LENGTH:
        line = f"{line[:MAX_ERROR_LENGTH]} ..."
    print(f"{program}: error: {line}", file=sys.stderr)


def _terminate(signum: int, frame: object) -> NoReturn:
    """Exit through `SystemExit`, so that half-written files are removed."""
    sys.exit(128 + signum)
