"""The error for what a user can fix; `lib.common.cli.run_main` turns it into exit code 2."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


class UserError(Exception):
    """Bad input, usage or environment.

    The message is one line, `where: what is wrong; what to do`, which begins with the flag, or the
    file with its line.

    `printed_by` tells which process of a distributed run prints the message:
    - "first": the first process of each machine, since every process fails in the same way;
    - "this": the process that raised the error;
    - "another": none, since another process prints it.
    """

    printed_by = "first"

    @property
    def where(self) -> str:
        """The flag with its value, or the file with its line, that the message begins with."""
        return str(self).partition(": ")[0]


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an `OSError` inside (full disk, no permission) into a `UserError` naming `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written: {reason}") from error
