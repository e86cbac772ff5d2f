"""What is refused, by the place that its error names and not by its wording."""

import contextlib
from collections.abc import Iterator

import pytest

from lib.common.errors import UserError
from models import ModelError


@contextlib.contextmanager
def refused(where: object, *names: str) -> Iterator[None]:
    """Code inside must raise an error of one line that begins with `where`: a flag with its value,
    or a file with its line; None for an error without a place. The line must have `names` too:
    labels, files, numbers, flags of the remedy."""
    with pytest.raises((UserError, ModelError)) as raised:
        yield
    line = str(raised.value)
    assert where is None or line.partition(": ")[0] == str(where), line
    assert "\n" not in line and all(name in line for name in names), line
