"""Unreadable images: tolerated up to a number, counted once, listed."""

import numpy as np
import torch

from lib.data.bad_images import BadImages, Unreadable, ignore_unread
from lib.data.split import Split
from lib.runtime.world import World
from tests.helpers.refusals import refused


def test_none_is_tolerated_by_default_and_any_number_without_a_limit():
    with refused("a.jpg", "--max-bad-images"):
        BadImages().add([Unreadable(0, "a.jpg: broken")])
    bad = BadImages(limit=None)
    bad.add(Unreadable(row, f"{row}.jpg: broken") for row in range(100))
    assert len(bad.reasons) == 100 and bad.reasons["7.jpg: broken"] == 7


def test_each_counts_once_and_is_reported_once():
    bad = BadImages(2)
    for epoch in range(3):
        bad.add([Unreadable(0, "a.jpg: broken"), Unreadable(1, "b.jpg: broken")])
        lines = ["skipped: a.jpg: broken", "skipped: b.jpg: broken"]
        assert list(bad.new_lines()) == ([] if epoch else lines)
    title, *listed = bad.summary()
    assert "--max-bad-images 2" in title and listed == ["  a.jpg: broken", "  b.jpg: broken"]
    with refused("c.jpg", "--max-bad-images 2"):
        bad.add([Unreadable(0, "c.jpg: gone")])


def test_ranks_add_each_others_images():
    class Pair(World):
        def gather(self, value):
            return [value, {"b.jpg: broken": 4}] if isinstance(value, dict) else [value]

    world = Pair(torch.device("cpu"))
    bad = BadImages(2)
    bad.add([Unreadable(0, "a.jpg: broken")])
    bad.merge_ranks(world)
    assert bad.reasons == {"a.jpg: broken": 0, "b.jpg: broken": 4}
    strict = BadImages(1)
    strict.add([Unreadable(0, "a.jpg: broken")])
    with refused("b.jpg", "--max-bad-images 1"):
        strict.merge_ranks(world)


def test_a_resumed_run_counts_and_does_not_report_again():
    bad = BadImages(1)
    bad.load_state_dict(["a.jpg: broken"])
    bad.add([Unreadable(0, "a.jpg: broken")])
    assert not list(bad.new_lines()) and bad.state_dict() == ["a.jpg: broken"]
    with refused("b.jpg", "--max-bad-images 1"):
        bad.add([Unreadable(1, "b.jpg: broken")])


def test_entries_of_unread_images_are_ignored():
    zeros = np.zeros((2, 3))
    split = Split.from_dense("test", ["a", "b"], zeros.astype(np.uint8), zeros.astype(bool))
    assert ignore_unread(split, np.array([1, 0])).dense()[1].tolist() == [[False] * 3, [True] * 3]
    with refused("test.txt"):
        ignore_unread(split, np.array([0, 0]))
