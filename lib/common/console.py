"""Progress bars, and lines printed between them; the first process of a run shows them."""

import os
import sys
from collections.abc import Iterable

from tqdm import tqdm

from lib.common.files import writing
from lib.common.rank_info import rank_info
from lib.common.text import escape_controls


def progress_bar(iterable: Iterable, description: str, unit: str, **options) -> tqdm:
    """A bar on stderr; redrawn seldom where that is a file, so that logs stay short."""
    pause = 0.2 if sys.stderr.isatty() else 10
    shown = {"desc": description, "unit": unit, "mininterval": pause, "dynamic_ncols": True}
    return tqdm(iterable, disable=rank_info().rank > 0, **shown, **options)


def print_note(line: str) -> None:
    """Print what is good to know to stderr, where it does not mix with results on stdout."""
    if rank_info().rank == 0:
        tqdm.write(f"note: {line}", file=sys.stderr)


def print_line(line: str) -> None:
    """Print a line to stdout without breaking the bars; bytes that are no UTF-8 as �."""
    if rank_info().rank > 0:
        return
    line = line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    with writing("standard output"):
        try:
            tqdm.write(escape_controls(line, keep="\n\t"))
            sys.stdout.flush()
        except BrokenPipeError:  # who reads has seen enough; the files are still to be written
            detach_stdout()


def detach_stdout() -> None:
    """Point a standard output that takes no more at nothing, or Python fails over it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
