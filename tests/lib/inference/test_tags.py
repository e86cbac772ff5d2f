"""Which labels and pictures are wanted."""

import numpy as np
import pytest

from lib.inference.tags import Selection, Tag
from lib.scoring.tuning import Cutoffs
from tests.helpers.refusals import refused

LABELS = ("ant", "bee", "cat", "dog", "elk")
SCORES = np.array([0.1, 0.9, 0.6, 0.5, 0.2], np.float32)
TARGETS, IGNORE = (1, 1, 0, 0, 0), (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("flags", "targets", "ignore", "expected"),
    [
        # highest first, those of the ground truth too; the threshold itself counts as predicted
        ({}, TARGETS, IGNORE, "bee correct, cat false alarm, dog false alarm, ant missed"),
        ({"cutoff": 0.51}, TARGETS, IGNORE, "bee correct, cat false alarm, ant missed"),
        # `top` bounds what is predicted only
        ({"top": 2}, TARGETS, IGNORE, "bee correct, cat false alarm, ant missed"),
        ({"top": 1}, (0, 0, 0, 1, 0), IGNORE, "bee false alarm, dog correct"),
        # labels of which nothing is known
        ({"cutoff": 0.55}, TARGETS, (1, 1, 0, 0, 0), "bee predicted, cat false alarm"),
        # given labels are chosen before the highest are counted
        ({"top": 1, "only": ("cat", "dog")}, TARGETS, IGNORE, "cat false alarm"),
    ],
)
def test_labels_that_are_predicted_or_named(flags, targets, ignore, expected):
    cutoffs = Cutoffs.at(flags.pop("cutoff", 0.5), 5)
    tags = Selection(LABELS, cutoffs, **flags).tags(
        SCORES, np.array(targets), np.array(ignore, bool)
    )
    assert ", ".join(f"{tag.label} {tag.verdict}" for tag in tags) == expected
    for tag in tags:
        assert LABELS[tag.column] == tag.label and tag.score == SCORES[tag.column]


@pytest.mark.parametrize(
    ("verdicts", "all_of_them", "with_labels", "with_errors"),
    [
        ([], True, False, False),
        (["correct", "predicted"], True, True, False),
        (["missed"], True, True, True),
        (["correct", "false alarm"], True, True, True),
    ],
)
def test_wanted_pictures(verdicts, all_of_them, with_labels, with_errors):
    tags = [Tag(0, "ant", 0.5, verdict) for verdict in verdicts]
    every, some, errors = (
        Selection(LABELS, Cutoffs.at(0.5, 5), **flags)
        for flags in ({}, {"only": ["ant"]}, {"only_errors": True})
    )
    assert (every.wants(tags), some.wants(tags), errors.wants(tags)) == (
        all_of_them,
        with_labels,
        with_errors,
    )
    assert (every.filters, some.filters, errors.filters) == (False, True, True)


@pytest.mark.parametrize(
    ("name", "says"),
    [("dgo", "dog?"), ("Bee", "bee?"), ("BEES", "bee?"), ("plane", "ant, bee, cat, dog, elk")],
)
def test_unknown_labels_are_refused_with_close_ones(name, says):
    with refused(f"--labels {name!r}", says):
        Selection(LABELS, Cutoffs.at(0.5, 5), only=["dog", name])
