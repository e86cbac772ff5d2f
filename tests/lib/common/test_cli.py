"""Exit codes, and which process of a run prints an error."""

import pytest

from lib.common.cli import MAX_ERROR_LENGTH, run_main
from lib.common.errors import UserError
from tests.helpers.commands import Result, environments, error_where, run


def exit_of(main):
    with pytest.raises(SystemExit) as end:
        run_main(main)
    return end.value.code


def failing(message="a.txt: broken", printed_by="first"):
    def main():
        error = UserError(message)
        error.printed_by = printed_by
        raise error

    return main


@pytest.mark.parametrize(
    "printed_by, local_rank, printed",
    [
        ("first", 0, True),
        ("first", 1, False),
        ("this", 0, True),
        ("this", 1, True),
        ("another", 0, False),
    ],
)
def test_an_error_is_printed_by_one_process(monkeypatch, capsys, printed_by, local_rank, printed):
    for name, value in environments(2)[local_rank].items():
        monkeypatch.setenv(name, value)
    assert exit_of(failing(printed_by=printed_by)) == 2
    assert ("error: a.txt: broken" in capsys.readouterr().err) == printed


def test_errors_are_one_line_of_limited_length(capsys):
    assert exit_of(failing("a\n  b " + "x" * 5000)) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and ": error: a b xxx" in line and line.endswith(" ...\n")
    assert len(line) < MAX_ERROR_LENGTH + 100


def test_exit_codes(monkeypatch, capsys):
    """What fails outside this project ends in one line; an error of its own is not caught."""

    def failing_with(error):
        def main():
            raise error

        return main

    assert exit_of(lambda: None) == 0
    assert exit_of(failing_with(KeyboardInterrupt())) == 130
    for error, where in (
        (PermissionError(13, "Permission denied", "locked"), "locked"),
        (OSError(24, "Too many open files", "here"), "[Errno 24] Too many open files"),
    ):
        capsys.readouterr()
        code = exit_of(failing_with(error))
        assert error_where(Result(code, *capsys.readouterr())) == where
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 / 0)
    monkeypatch.setattr("sys.platform", "win32")
    assert exit_of(lambda: None) == 2 and "WSL" in capsys.readouterr().err


HALF_MADE = """
from lib.common.cli import run_main
from lib.common.errors import UserError

class HalfMade:
    def __del__(self):
        self.what_was_never_set

def main():
    half_made = HalfMade()
    raise UserError("a.txt: broken")

run_main(main)
"""


def test_what_was_half_made_adds_no_traceback(tmp_path):
    """As PyTorch's loader does when its workers cannot start."""
    assert error_where(run("-c", HALF_MADE, cwd=tmp_path)) == "a.txt"
