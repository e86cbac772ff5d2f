"""Mistakes, alone and in pairs: small answers by hand, and counting."""

import numpy as np
import pytest

from lib.scoring.mistakes import (
    count_cooccurrences,
    pairs,
    verdicts,
    worst_false_alarms,
    worst_missed,
)


def random_marks(seed, rows=30, columns=6):
    random = np.random.default_rng(seed)
    return random.random((rows, columns)) < 0.3, random.random((rows, columns)) < 0.3


def test_verdicts_leave_ignored_entries_out():
    scores, targets = np.array([[0.5, 0.4, 0.9, 0.1]]), np.array([[1, 1, 0, 0]])
    found = verdicts(scores, targets, None, 0.5)
    assert [marks.tolist() for marks in found] == [
        [[True, False, False, False]],
        [[False, True, False, False]],
        [[False, False, True, False]],
    ]
    assert not any(marks.any() for marks in verdicts(scores, targets, np.ones((1, 4)), 0.5))


@pytest.mark.parametrize("seed", range(3))
def test_together_counts_images(seed):
    first, second = random_marks(seed)
    for i in range(6):
        for j in range(6):
            expected = sum(bool(a[i] and b[j]) for a, b in zip(first, second, strict=True))
            assert count_cooccurrences(first, second)[i, j] == expected


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_beyond_chance(seed):
    first, second = random_marks(seed)
    found = pairs(first, second, 100)
    met = count_cooccurrences(first, second)
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
    assert [(e.row, e.column) for e in worst_false_alarms(scores, alarms)] == [
        (1, 0),
        (0, 0),
        (2, 0),
    ]
    missed = np.array([[0, 0], [0, 1], [0, 0], [1, 1]], bool)
    assert [tuple(e) for e in worst_missed(scores, missed)] == [(1, 1, 0.1), (3, 0, 0.3)]
    assert list(worst_missed(scores, np.zeros((4, 2), bool))) == []
