"""Shares and groups, by numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data.preparation.groups import group_numbers, identical_files, sibling_stem
from lib.data.preparation.splits import stratified_choice
from lib.data.sources.annotations import AnnotatedImage


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_the_share_is_exact_where_most_labels_are_rare(fraction):
    """Few labels that many images have, and many that hardly any has."""
    random = np.random.default_rng(0)
    weights = 1 / np.arange(1, 640)
    targets = np.zeros((1000, 639), np.uint8)
    for row in targets:
        number = random.integers(1, 4)
        row[random.choice(639, number, replace=False, p=weights / weights.sum())] = 1
    chosen = stratified_choice(targets, fraction, 0)
    assert abs(chosen.sum() - 1000 * fraction) <= 1
    counts = targets.sum(axis=0)
    frequent = counts * fraction >= 10
    assert frequent.any()
    assert np.abs(targets[chosen].sum(axis=0) - fraction * counts)[frequent].max() <= 3


def test_images_with_a_label_each_can_be_split():
    assert stratified_choice(np.eye(500, dtype=np.uint8), 0.2, 0).sum() == 100
    threes = np.zeros((3000, 501), np.uint8)
    threes[np.arange(1500), np.arange(1500) // 3] = 1  # 500 labels of three images each
    threes[1500:, 500] = 1  # and one of 1,500
    chosen = stratified_choice(threes, 0.2, 0)
    assert chosen.sum() == 600 and abs(int(threes[chosen, 500].sum()) - 300) <= 3


@given(st.integers(0, 10**6), st.floats(0.05, 0.9), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_groups_stay_together_and_the_share_is_right_to_one_of_them(seed, fraction, largest):
    random = np.random.default_rng(seed)
    targets = (random.random((random.integers(20, 200), 5)) < 0.2).astype(np.uint8)
    groups = np.unique(random.integers(0, len(targets) // largest + 2, len(targets)))
    groups = np.unique(random.choice(groups, len(targets)), return_inverse=True)[1]
    chosen = stratified_choice(targets, fraction, seed, groups)
    sizes = np.bincount(groups)
    assert abs(chosen.sum() - fraction * len(targets)) <= sizes.max() / 2 + 1
    for group in range(len(sizes)):
        assert len(set(chosen[groups == group].tolist())) == 1


@pytest.mark.parametrize("kind", range(4))
def test_groups_that_resemble_one_another_within(kind):
    """Patients with their own mix of labels: every label of 50 images or more comes within 5 points
    of its share, or as near as its largest group allows."""
    for seed in range(50):
        random = np.random.default_rng((kind, seed))
        number, columns = random.integers(60, 500), random.integers(4, 30)
        sizes = (
            random.geometric(0.2, number),
            np.full(number, 8),
            np.minimum(random.pareto(1.2, number) + 1, 60).astype(int),
            np.where(random.random(number) < 0.1, random.integers(10, 40, number), 1),
        )[kind]
        groups = np.repeat(np.arange(number), sizes)
        shares = 3 * random.beta(0.6, 4, columns)
        shares = random.beta(shares + 1e-3, 3.1 - shares, (number, columns))
        targets = (random.random((len(groups), columns)) < shares[groups]).astype(int)
        largest = np.stack([np.bincount(groups, column) for column in targets.T]).max(axis=1)
        counts = np.maximum(targets.sum(axis=0), 1)
        chosen = stratified_choice(targets, 0.2, seed, groups)
        off = np.abs(targets[chosen].sum(axis=0) / counts - 0.2)
        assert (off <= np.maximum(0.05, largest / counts))[counts >= 50].all(), (seed, off)
        assert abs(chosen.sum() - 0.2 * len(groups)) <= sizes.max() / 2 + 1


@pytest.mark.parametrize("number", [800, None])
def test_stratification_with_groups_and_without(number):
    random = np.random.default_rng(0)
    targets = (random.random((4000, 20)) < np.linspace(0.05, 0.4, 20)).astype(np.uint8)
    groups = np.arange(4000) if number is None else random.integers(0, number, 4000)
    groups = np.unique(groups, return_inverse=True)[1]
    chosen = stratified_choice(targets, 0.2, 3, groups)
    shares = targets[chosen].sum(axis=0) / targets.sum(axis=0)
    assert abs(chosen.sum() - 800) <= 5 and np.abs(shares - 0.2).max() < 0.03, shares
    assert (chosen == stratified_choice(targets, 0.2, 3, groups)).all()
    assert (chosen != stratified_choice(targets, 0.2, 4, groups)).any()


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("train/cow_12_jpg.rf.0a1b2c.jpg", "cow_12"),
        ("cow_PNG.rf.xYz9.png", "cow"),
        ("cow_jpg.jpg", None),
        ("cow.rf.0a.jpg", None),
    ],
)
def test_names_of_versions(path, stem):
    assert sibling_stem(path) == stem


def test_groups_are_joined_by_any_of_their_reasons(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1"), ("d", b"33"), ("e", b"")):
        (tmp_path / f"{name}.jpg").write_bytes(content)
    (tmp_path / "f.jpg").write_bytes(b"")  # empty files are no copies
    samples = [AnnotatedImage(f"{name}.jpg") for name in "abcdef"]
    samples[1].group = samples[2].group = "x"
    numbers = group_numbers(samples)
    assert numbers.tolist() == [0, 0, 0, 1, 2, 3]
    assert list(identical_files(["a.jpg", "b.jpg", "c.jpg", "gone.jpg"])) == [[0, 2]]
