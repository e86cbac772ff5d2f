"""The command line of all commands: parsers, types of flags, errors in one line, exit codes."""

import argparse
import io
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from lib.common.errors import UserError
from lib.common.failures import explain, raise_open_files_limit
from lib.common.rank_info import rank_info
from lib.common.text import escape_controls

MAX_ERROR_LENGTH = 2000  # characters; untrusted names in a message may be of any length
MAPS = ("evidence", "attention", "both")
TAG_FORMATS = ("json", "csv", "xmp")
HUB = "hf://"  # begins the name of a model on the Hugging Face Hub
PRECISIONS = ("float32", "bfloat16", "auto")
BERT = "bert-base-uncased"  # the text model of the published label vectors
OUT_OF_VOCABULARY = ("error", "zero", "mean")  # what to do about words without a vector
DEVICES = ("auto", "cpu", "cuda", "mps")
# how the turn is read that a camera notes in EXIF: pictures turned by it, or pixels as stored
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
    if isinstance(sys.stdout, io.TextIOWrapper):  # for names that the terminal cannot encode
        sys.stdout.reconfigure(errors="backslashreplace")
    program = Path(sys.argv[0]).name
    try:
        if sys.platform == "win32":
            raise UserError("runs on Linux and macOS; on Windows, use WSL")
        raise_open_files_limit()
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


def experiment_parser(
    description: str, threshold: str, kind: Callable[[str], float | str] | None = None
) -> Parser:
    """A parser with the flags that evaluate.py and infer.py have in common.

    `threshold` describes the default of --threshold, `kind` is its type (default: a fraction).
    """
    parser = Parser(description=description)
    parser.add_argument(
        "--exp-dir",
        required=True,
        type=experiment_path,
        help="experiment folder that train.py made, or only its best_ema_model.pth; or an exported "
        "model: its folder, or hf://user/name on the Hugging Face Hub",
    )
    parser.add_argument(
        "--threshold",
        type=kind or fraction,
        help=f"score from which a label counts as predicted (default: {threshold})",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        help="batch size (default: as in training, at most 64)",
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="device to compute on")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="float32, or bfloat16 in mixed precision; auto: bfloat16 where the device computes it "
        "itself (default: as in training, but float32 on a CPU that does not)",
    )
    parser.add_argument(
        "--workers",
        type=non_negative_int,
        help="data loading worker processes of a rank (default: one per core, at most 16)",
    )
    return parser


def add_bootstrap_flags(parser: Parser) -> None:
    """Add the flags of the scripts that compute bootstrap intervals."""
    parser.add_argument(
        "--resamples",
        type=at_least(20),
        default=500,
        help="bootstrap resamples, 20 or more (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        help="random seed of the bootstrap (default: %(default)s)",
    )


def preprocess_parser(description: str, data_dir: str | None, save_dir: str | None) -> Parser:
    """A parser with the flags that the preprocessing scripts have in common.

    Without a `data_dir` or `save_dir` it has no such flag.
    """
    parser = Parser(description=description)
    if data_dir:
        parser.add_argument(
            "--data-dir",
            type=folder_path,
            default=data_dir,
            help="folder of the official files (default: %(default)s)",
        )
    if save_dir:
        parser.add_argument(
            "--save-dir",
            type=folder_path,
            default=save_dir,
            help="output folder (default: %(default)s)",
        )
    parser.add_argument(
        "--check-images", action="store_true", help="open every image and report damaged ones"
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out missing images (and damaged ones, with --check-images)",
    )
    parser.add_argument(
        "--val",
        type=fraction,
        default=0.0,
        help="fraction of train to split off as val.txt, stratified by label "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=non_negative_int, default=0, help="random seed (default: %(default)s)"
    )
    return parser


def parse_with_year(parser: Parser, years: Mapping[str, tuple[str, str]]) -> argparse.Namespace:
    """Parse the command line of a `preprocess_parser`, with a flag `--year` of its own.

    `years` maps each to the defaults of --data-dir and --save-dir; the first is the default.
    """
    parser.add_argument(
        "--year",
        choices=years,
        default=next(iter(years)),
        help="year of the data set, which the default folders follow (default: %(default)s)",
    )
    data_dir, save_dir = years[parser.parse_known_args()[0].year]
    parser.set_defaults(data_dir=Path(data_dir), save_dir=Path(save_dir))
    return parser.parse_args()


def experiment_path(text: str) -> str | Path:
    """Type of a flag: a folder or file, or a name of the Hugging Face Hub."""
    return text if text.startswith(HUB) else folder_path(text)


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
