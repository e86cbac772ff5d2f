"""Which labels and pictures are wanted."""

import numpy as np
import pytest

from lib.common.errors import UserError
from lib.inference.tags import Selection, Tag, columns_of
from lib.scoring.tuning import Cutoffs

SCORES = np.array([0.1, 0.9, 0.6, 0.5, 0.2], np.float32)
TARGETS = np.array([1, 1, 0, 0, 0])
KNOWN = np.zeros(5, bool)


def tags(selection, targets=TARGETS, ignore=KNOWN):
    return [(tag.column, tag.verdict) for tag in selection.tags(SCORES, targets, ignore)]


def test_labels_that_are_predicted_or_named():
    """Highest first; the threshold itself counts as predicted."""
    found = [(1, "correct"), (2, "false alarm"), (3, "false alarm"), (0, "missed")]
    assert tags(Selection(Cutoffs.at(0.5, 5))) == found
    assert tags(Selection(Cutoffs.at(0.51, 5))) == [*found[:2], found[3]]
    score = Selection(Cutoffs.at(0.5, 5)).tags(SCORES, TARGETS, KNOWN)[0].score
    assert score == pytest.approx(0.9) and isinstance(score, float)


def test_top_bounds_what_is_predicted_only():
    assert tags(Selection(Cutoffs.at(0.5, 5), top=2)) == [
        (1, "correct"),
        (2, "false alarm"),
        (0, "missed"),
    ]
    named = np.array([0, 0, 0, 1, 0])  # reaches the threshold, though it is not among the highest
    assert tags(Selection(Cutoffs.at(0.5, 5), top=1), named) == [(1, "false alarm"), (3, "correct")]


def test_labels_of_which_nothing_is_known():
    ignore = np.array([1, 1, 0, 0, 0], bool)
    assert tags(Selection(Cutoffs.at(0.55, 5)), ignore=ignore) == [
        (1, "predicted"),
        (2, "false alarm"),
    ]


def test_given_labels_alone():
    """They are chosen before the highest are counted."""
    assert tags(Selection(Cutoffs.at(0.5, 5), top=1, columns=frozenset([2, 3, 4]))) == [
        (2, "false alarm")
    ]


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
    found = [Tag(0, 0.5, verdict) for verdict in verdicts]
    assert Selection(Cutoffs.at(0.5, 5)).wants(found) is all_of_them
    assert Selection(Cutoffs.at(0.5, 5), columns=frozenset([0])).wants(found) is with_labels
    assert Selection(Cutoffs.at(0.5, 5), only_errors=True).wants(found) is with_errors
    assert (
        not Selection(Cutoffs.at(0.5, 5)).filters
        and Selection(Cutoffs.at(0.5, 5), only_errors=True).filters
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dgo", "did you mean dog?"),
        ("Person", "did you mean person?"),
        ("PERSONS", "did you mean person?"),
        ("aeroplane", "its 3 labels are dog, person, dining table"),
    ],
)
def test_unknown_labels_are_refused_with_close_ones(name, says):
    labels = ["dog", "person", "dining table"]
    assert columns_of(["person", "dog"], labels) == {0, 1}
    with pytest.raises(UserError, match=f"--labels '{name}': no label") as raised:
        columns_of(["dog", name], labels)
    assert says in str(raised.value)
