"""Lines on stdout: whole ones, or none, where it is a file."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from tests.helpers.commands import ROOT

ROWS = """
import sys
from lib.common.console import print_line, whole_on_stdout
from lib.common.cli import run_main
from lib.common.errors import UserError

def main():
    for number in range(9):
        print_line("\\n".join(f"{number} row {row}, which is long" for row in range(%d)))
    with whole_on_stdout():
        print_line("not recorded")
        raise UserError("done.jsonl: cannot be written")

run_main(main)
"""


def limited(size):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("rows", [3, 1000], ids=["small", "large"])
@pytest.mark.parametrize("mode", ["ab", "wb"])
@pytest.mark.parametrize("room", [1.5, 3.4, 99])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_keeps_whole_batches(tmp_path, rows, mode, room, unbuffered):
    """What a failed batch has written is cut off, also what its record has no room for."""
    batch = sum(len(f"0 row {row}, which is long\n") for row in range(rows))
    with open(tmp_path / "out", mode) as out:
        result = subprocess.run(
            [sys.executable, "-c", ROWS % rows],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
            preexec_fn=limited(int(room * batch)),
        )
    written = (tmp_path / "out").read_text().splitlines(keepends=True)
    assert result.returncode == 2 and b"Traceback" not in result.stderr, result.stderr
    assert len(written) == rows * min(9, int(room)) and all(
        line[-5:] == "long\n" for line in written
    )
