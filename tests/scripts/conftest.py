"""The command scripts/custom.py in a folder with pictures."""

import pytest

from tests.helpers.annotations import Made, picture, write
from tests.helpers.commands import run_here


@pytest.fixture
def custom(tmp_path, monkeypatch, capsys):
    """The command, in a working folder with photos/a.jpg ... photos/h.jpg of 40 x 50."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abcdefgh"):
        picture(f"photos/{name}.jpg", number)

    def run(source, *flags, content=None):
        if content is not None:
            write(source, content)
        flags = ("--name", "mine", "--train", source, *flags)
        return Made(*run_here(monkeypatch, capsys, "scripts/custom.py", *map(str, flags)))

    return run
