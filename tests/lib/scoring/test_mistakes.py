"""Mistakes, alone and in pairs: small answers by hand, and counting."""

import numpy as np
import pytest

from lib.scoring.mistakes import count_cooccurrences, pairs, verdicts, worst_entries


def random_marks(seed, rows=30, columns=6):
    random = np.random.default_rng(seed)
    return random.random((rows, columns)) < 0.3, random.random((rows, columns)) < 0.3


def test_verdicts_leave_ignored_entries_out():
    scores, targets = np.array([[0.5, 0.4, 0.9, 0.1]]), np.array([[1, 1, 0, 0]])
    found = np.concatenate(verdicts(scores, targets, np.zeros((1, 4)), 0.5))
    assert found.tolist() == np.eye(3, 4).astype(bool).tolist()
    assert not any(marks.any() for marks in verdicts(scores, targets, np.ones((1, 4)), 0.5))


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_beyond_chance(seed):
    first, second = random_marks(seed)
    found = pairs(first, second, 100)
    met = count_cooccurrences(first, second)
    for i, j in np.ndindex(6, 6):
        assert met[i, j] == sum(bool(a[i] and b[j]) for a, b in zip(first, second, strict=True))
    for pair in found:
        assert pair.first != pair.second and pair.images == met[pair.first, pair.second]
        chance = first[:, pair.first].sum() * second[:, pair.second].sum() / 30
        assert pair.expected == pytest.approx(chance) and pair.images > chance
    excess = [pair.images - pair.expected for pair in found]
    assert excess == sorted(excess, reverse=True)
    assert pairs(first, second, 2) == found[:2]
    alike = pairs(first, first, 100)
    assert alike and all(pair.first < pair.second for pair in alike)


def test_a_confusion_is_found():
    """cat is missed where dog is seen, in 3 of 10 images."""
    missed, alarm = np.zeros((10, 3), bool), np.zeros((10, 3), bool)
    missed[:3, 0] = alarm[:3, 1] = True
    (pair,) = pairs(missed, alarm, 5)
    assert (pair.first, pair.second, pair.images) == (0, 1, 3)
    assert pair.expected == pytest.approx(0.9)
    assert pairs(missed, np.zeros((10, 3), bool), 5) == []
    assert pairs(missed[2:], alarm[2:], 5) == []  # once is no pattern


def test_worst_entries_come_once_an_image_and_in_order():
    scores = np.array([[0.9, 0.8], [0.95, 0.1], [0.9, 0.2], [0.3, 0.4]])
    alarms = np.array([[1, 1], [1, 0], [1, 0], [0, 0]], bool)
    assert worst_entries(scores, alarms, highest=True) == [(1, 0), (0, 0), (2, 0)]
    missed = np.array([[0, 0], [0, 1], [0, 0], [1, 1]], bool)
    assert worst_entries(scores, missed, highest=False) == [(1, 1), (3, 0)]
    assert worst_entries(scores, np.zeros((4, 2), bool), highest=False) == []
