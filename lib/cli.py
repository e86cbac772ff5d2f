"""What all commands share: a parser whose errors are one line, and exit codes."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lib.errors import UserError


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations that raises `UserError` on wrong usage."""

    def __init__(self, **kwargs) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run an entry point and leave with its exit code.

    0 done, 2 after a `UserError` (its line on stderr, no traceback), 130 and 143 after SIGINT and
    SIGTERM; any other exception is a bug and keeps its traceback (exit code 1).
    """
    signal.signal(signal.SIGTERM, _terminate)
    program = Path(sys.argv[0]).name
    try:
        main()
    except UserError as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    sys.exit(0)


def _terminate(signum: int, frame: object) -> NoReturn:
    """Leave through `SystemExit`, so that half-written files are removed on the way out."""
    sys.exit(128 + signum)
