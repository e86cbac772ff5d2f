"""Flags of a dataclass: their groups in --help, and what parsing returns."""

import dataclasses

import pytest

from lib.common.errors import UserError
from lib.common.flags import flag, parse_flags


@dataclasses.dataclass(frozen=True)
class Grouped:
    plain: int = flag(1, "before any group")
    size: int = flag(2, "image side", group="images")
    flip: bool = flag(False, "mirror images", short="-f")
    loss: str | None = flag(None, "loss function", choices=("asl", "bce"), group="training")
    lr: float = flag(0.1, "learning rate")


@dataclasses.dataclass(frozen=True)
class Ungrouped:
    size: int = flag(2, "image side")
    flip: bool = flag(False, "mirror images")


def help_of(dataclass, capsys):
    with pytest.raises(SystemExit) as end:
        parse_flags(dataclass, "Does something.", ["--help"])
    assert not end.value.code
    return capsys.readouterr().out


def test_help_shows_flags_in_their_groups(capsys):
    """A field belongs to the group that the last field before it named."""
    text = help_of(Grouped, capsys)
    assert "Does something." in text
    options, images, training = text.replace("\ntraining:\n", "\nimages:\n").split("\nimages:\n")
    flags = [
        [line.split()[0].rstrip(",") for line in part.splitlines() if line.startswith("  -")]
        for part in (options.split("options:\n")[1], images, training)
    ]
    assert flags == [["-h", "--plain"], ["--size", "-f"], ["--loss", "--lr"]]
    assert text.index("\nimages:") < text.index("\ntraining:")
    assert "image side (default: 2)" in text and "loss function\n" in text


def test_help_without_groups_is_one_list(capsys):
    text = help_of(Ungrouped, capsys)
    assert [line for line in text.splitlines() if line.endswith(":")] == ["options:"]
    assert "--size SIZE" in text and "--flip" in text


def test_only_flags_that_are_passed_are_returned():
    assert parse_flags(Grouped, "", []) == {}
    argv = ["--size", "3", "-f", "--loss", "bce", "--lr", "1e-3"]
    expected = {"size": 3, "flip": True, "loss": "bce", "lr": 1e-3}
    assert parse_flags(Grouped, "", argv) == expected


@pytest.mark.parametrize("argv", [["--loss", "mse"], ["--size", "big"], ["--siz", "3"]])
def test_wrong_usage_names_the_flag(argv):
    with pytest.raises(UserError, match=f"{argv[0]}.*see --help"):
        parse_flags(Grouped, "", argv)
