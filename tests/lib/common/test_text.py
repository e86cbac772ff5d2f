"""Control characters are shown, not obeyed."""

import pytest

from lib.common.cli import run_main
from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.text import escape_controls

HOSTILE = "a\x1b]0;title\x07b\rc\x9b2J\u202ed\x7f"
ESCAPED = "a\\x1b]0;title\\x07b\\rc\\x9b2J\\u202ed\\x7f"


def test_controls_are_escaped_and_letters_stay():
    assert escape_controls(HOSTILE) == ESCAPED
    text = "caf\u00e9 \u732b \U0001f469\u200d\U0001f680 <script> ../x"
    assert escape_controls(text) == text
    assert escape_controls("a\nb", keep="\n") == "a\nb" and escape_controls("a\nb") == "a\\nb"


def test_errors_and_lines_are_printed_with_controls_escaped(capsys):
    def main():
        print_line(f"one\n{HOSTILE}")
        raise UserError(HOSTILE)

    with pytest.raises(SystemExit):
        run_main(main)
    captured = capsys.readouterr()
    assert captured.out == f"one\n{ESCAPED}\n"
    assert captured.err.endswith(f": error: {ESCAPED.replace(chr(92) + 'r', ' ')}\n")
