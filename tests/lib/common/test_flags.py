"""Flags of a dataclass: their groups in --help, and what parsing returns."""

import dataclasses

import pytest

from lib.common.flags import flag, parse_flags
from tests.helpers.refusals import refused


@dataclasses.dataclass(frozen=True)
class Grouped:
    plain: int = flag(1, "before any group")
    size: int = flag(2, "image side", group="images")
    flip: bool = flag(False, "mirror images", short="-f")
    loss: str | None = flag(None, "loss function", choices=("asl", "bce"), group="training")
    lr: float = flag(0.1, "learning rate")


def test_help_shows_flags_in_their_groups(capsys):
    """A field belongs to the group that the last field before it named."""
    with pytest.raises(SystemExit) as end:
        parse_flags(Grouped, "Does something.", ["--help"])
    text = capsys.readouterr().out
    assert not end.value.code and "Does something." in text
    options, images, training = text.replace("\ntraining:\n", "\nimages:\n").split("\nimages:\n")
    flags = [
        [line.split()[0].rstrip(",") for line in part.splitlines() if line.startswith("  -")]
        for part in (options.split("options:\n")[1], images, training)
    ]
    assert flags == [["-h", "--plain"], ["--size", "-f"], ["--loss", "--lr"]]
    assert text.index("\nimages:") < text.index("\ntraining:")
    assert "image side (default: 2)" in text and "loss function\n" in text


def test_only_flags_that_are_passed_are_returned():
    assert parse_flags(Grouped, "", []) == {}
    argv = ["--size", "3", "-f", "--loss", "bce", "--lr", "1e-3"]
    expected = {"size": 3, "flip": True, "loss": "bce", "lr": 1e-3}
    assert parse_flags(Grouped, "", argv) == expected


def test_wrong_usage_names_the_flag():
    for argv, where in (
        (["--loss", "mse"], "--loss"),
        (["--size", "big"], "--size"),
        (["--siz", "3"], "unrecognized arguments"),
    ):
        with refused(where, argv[0], "--help"):
            parse_flags(Grouped, "", argv)
