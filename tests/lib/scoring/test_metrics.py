"""Metrics against the goldens, their literal twins and what must not change them."""

import numpy as np
import pytest

from lib.scoring.metrics import (
    average_precision,
    f1_scores,
    mean_average_precision,
    top_labels,
)
from tests.helpers import goldens
from tests.helpers.twins import literal_average_precision, literal_f1, random_case


def test_parity_metrics():
    small = goldens.arrays("small")
    cases = sorted({name.split(".")[1] for name in small if name.startswith("metrics.")})
    assert cases
    for case in cases:
        part = {
            name.split(".")[2]: value
            for name, value in small.items()
            if name.startswith(f"metrics.{case}.")
        }
        arrays = part["scores"], part["targets"], part.get("ignore")
        np.testing.assert_allclose(average_precision(*arrays), part["aps"], atol=1e-9)
        assert mean_average_precision(*arrays) == pytest.approx(float(part["mAP"]), abs=1e-9)
        np.testing.assert_allclose(f1_scores(*arrays), part["threshold"], atol=1e-9)
        np.testing.assert_allclose(f1_scores(*arrays, topk=3), part["topk"], atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_and_f1_match_their_twins(seed):
    case = random_case(seed)
    columns = zip(*(array.T for array in case), strict=True)
    expected = [literal_average_precision(*column) for column in columns]
    np.testing.assert_allclose(average_precision(*case), expected, atol=1e-12)
    for topk in (None, 1, 3, 6, 9):
        np.testing.assert_allclose(
            f1_scores(*case, threshold=0.4, topk=topk), literal_f1(*case, 0.4, topk), atol=1e-12
        )


def test_ties_stand_in_file_order():
    scores = np.full((2, 2), 0.5)
    assert average_precision(scores, np.array([[1, 0], [0, 1]])).tolist() == [1.0, 0.5]
    assert top_labels(scores, 1).tolist() == [[True, False], [True, False]]


def test_each_label_can_have_a_threshold():
    scores, targets, ignore = random_case(4)
    limits = np.linspace(0.2, 0.8, 6)
    shifted = scores - limits + 0.5
    expected = f1_scores(shifted.round(9), targets, ignore, threshold=0.5)
    assert f1_scores(scores, targets, ignore, threshold=limits) == expected


def test_topk_is_chosen_before_ignore():
    """The ignored best label takes the only place, so that nothing is predicted."""
    scores, targets = np.array([[0.9, 0.8]]), np.array([[0, 1]])
    assert f1_scores(scores, targets, np.array([[1, 0]]), topk=1).orec == 0
    assert f1_scores(scores, targets, None, topk=2).orec == 1


def test_results_of_nothing():
    found = f1_scores(np.zeros((3, 2)), np.zeros((3, 2)))
    assert found == (1, 1, 1, 0, 0, 0)
    names = ["topk_cp", "topk_cr", "topk_cf1", "topk_op", "topk_or", "topk_of1"]
    assert list(found.as_dict("topk")) == names
