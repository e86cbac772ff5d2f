"""Progress bars, and lines printed between them; only rank 0 shows them."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from lib.common.errors import writing
from lib.common.rank_info import rank_info
from lib.common.text import escape_controls

_closed = False  # whether the reader of stdout has closed it


def progress_bar(
    iterable: Iterable[Any] | None, description: str, unit: str, **options: Any
) -> tqdm:
    """A progress bar on stderr; if that is a file, redrawn every 10 s, so that logs stay short."""
    return tqdm(
        iterable,
        desc=description,
        unit=unit,
        mininterval=0.2 if sys.stderr.isatty() else 10,
        dynamic_ncols=True,
        disable=rank_info().rank > 0,
        **options,
    )


def print_note(line: str) -> None:
    """Print a note to stderr, where it does not mix with the results on stdout."""
    if rank_info().rank == 0:
        tqdm.write(f"note: {line}", file=sys.stderr)


def print_line(line: str) -> None:
    """Print a line to stdout without breaking the bars; bytes that are not UTF-8 become �."""
    if rank_info().rank > 0:
        return
    line = line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    with writing("standard output"):
        try:
            tqdm.write(escape_controls(line, keep="\n\t"))
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as head, has closed the pipe: carry on
            detach_stdout()


def stdout_is_closed() -> bool:
    """Whether a line was printed that no reader got."""
    return _closed


def detach_stdout() -> None:
    """Redirect a broken stdout to the null device, so that Python does not fail on it at exit."""
    global _closed
    try:
        sys.stdout.flush()
    except OSError:
        _closed = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
