"""What all commands share: a parser whose errors are one line, and exit codes."""

import argparse
import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lib.common.errors import UserError
from lib.common.rank_info import rank_info
from lib.common.text import escape_controls

LONGEST = 2000  # characters of an error's line; names of others may have any number
DEVICES = ("auto", "cpu", "cuda", "mps")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations that raises `UserError` on wrong usage."""

    def __init__(self, **kwargs) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run an entry point and leave with its exit code.

    0 done, 2 after a `UserError` or for want of a permission (a line on stderr, no traceback), 130
    and 143 after SIGINT and SIGTERM; any other exception is a bug and keeps its traceback (exit
    code 1).
    """
    signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may hold what a terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    program = Path(sys.argv[0]).name
    try:
        main()
    except UserError as error:
        from lib.common.console import detach_stdout  # with it comes what --help can do without

        detach_stdout()
        _print_error(program, error)
        sys.exit(2)
    except PermissionError as error:  # folders that may not even be looked into, wherever they are
        if error.filename is None:
            raise
        _print_error(program, UserError(f"{error.filename}: {error.strerror}"))
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    sys.exit(0)


def at_least(least: int) -> Callable[[str], int]:
    """Type of a command's flag that takes a whole number of `least` or more."""

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


def experiment_parser(
    description: str, threshold: str, kind: Callable[[str], float | str] | None = None
) -> Parser:
    """A parser with the flags that evaluate.py and infer.py share.

    `threshold` says what is taken where --threshold, of type `kind` (a share), is left out.
    """
    parser = Parser(description=description)
    parser.add_argument(
        "--exp-dir",
        required=True,
        type=folder_path,
        help="experiment folder that train.py made, or its best_ema_model.pth alone",
    )
    parser.add_argument(
        "--threshold",
        type=kind or fraction,
        help=f"score from which a label counts as predicted (default: {threshold})",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        help="images per step (default: as in training, at most 64)",
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to compute")
    parser.add_argument(
        "--workers", type=non_negative_int, help="image loading processes (default: one per core)"
    )
    return parser


def add_bootstrap_flags(parser: Parser) -> None:
    """The flags of scripts that draw resamples of the images."""
    parser.add_argument(
        "--resamples",
        type=at_least(20),
        default=500,
        help="resamples of the bootstrap intervals, 20 or more (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=non_negative_int, default=0, help="of the resamples (%(default)s)"
    )


def preprocess_parser(description: str, data_dir: str | None, save_dir: str | None) -> Parser:
    """A parser with the flags that the preprocessing scripts share."""
    parser = Parser(description=description)
    if data_dir:
        parser.add_argument(
            "--data-dir",
            type=folder_path,
            default=data_dir,
            help="the official files (%(default)s)",
        )
    if save_dir:
        parser.add_argument(
            "--save-dir", type=folder_path, default=save_dir, help="where to write (%(default)s)"
        )
    parser.add_argument(
        "--check-images", action="store_true", help="open every image and report the broken ones"
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out images that are missing (or broken, with --check-images)",
    )
    parser.add_argument(
        "--val",
        type=fraction,
        default=0.0,
        help="share of train to split off as val.txt, alike for every label (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=non_negative_int, default=0, help="of what is drawn (%(default)s)"
    )
    return parser


def folder_path(text: str) -> Path:
    """Type of a command's flag that takes a folder whose path can stand in train.txt."""
    if not text.strip() or set(text) & set("\t\n\r"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a path without tab or line end")
    return Path(text)


def fraction(text: str) -> float:
    """Type of a command's flag that takes a number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be between 0 and 1")
    return value


def comma_separated(text: str) -> list[str]:
    """Type of a command's flag that takes names joined by commas."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: must be names joined by commas")
    return names


def fraction_or_tuned(text: str) -> float | str:
    """Type of a command's flag that takes a number between 0 and 1, or `tuned`."""
    return text if text == "tuned" else fraction(text)


def _print_error(program: str, error: UserError) -> None:
    first = error.printed_by == "first" and rank_info().local_rank == 0
    if first or error.printed_by == "this":
        line = escape_controls(" ".join(str(error).split()))
        line = line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
        print(f"{program}: error: {line}", file=sys.stderr)


def _terminate(signum: int, frame: object) -> NoReturn:
    """Leave through `SystemExit`, so that half-written files are removed on the way out."""
    sys.exit(128 + signum)
