"""Progress bars, and lines printed between them; only rank 0 shows them."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
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
    with writing("standard output"), whole_on_stdout():
        try:
            # the line end in the same write: a kill between two would join this line to the next
            tqdm.write(escape_controls(line, keep="\n\t") + "\n", end="")
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as head, has closed the pipe: carry on
            detach_stdout()


@contextlib.contextmanager
def whole_on_stdout() -> Iterator[None]:
    """If the block fails, as on a full disk, cut a stdout that is a file back to what it held
    before, so that a later run can append whole lines to it; nothing more is written there."""
    before = None
    with contextlib.suppress(OSError, ValueError):  # stdout is closed, or no file at all
        before = os.fstat(sys.stdout.fileno())
    try:
        yield
    except Exception:
        if before and stat.S_ISREG(before.st_mode):
            os.ftruncate(sys.stdout.fileno(), before.st_size)
            _redirect_to_null()
        raise


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
        _redirect_to_null()


def _redirect_to_null() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
