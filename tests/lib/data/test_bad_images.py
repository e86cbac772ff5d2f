"""Unreadable images: tolerated up to a number, counted once, listed."""

import numpy as np
import pytest
import torch

from lib.common.errors import UserError
from lib.data.bad_images import BadImages, Unreadable, ignore_unread
from lib.data.folder import Split
from lib.runtime.world import World


def test_none_is_tolerated_by_default():
    with pytest.raises(UserError, match="a.jpg: broken; fix or remove it, .* --max-bad-images$"):
        BadImages().add([Unreadable(0, "a.jpg: broken")])


def test_any_number_is_tolerated_without_a_limit():
    bad = BadImages(limit=None)
    bad.add(Unreadable(row, f"{row}.jpg: broken") for row in range(100))
    assert len(bad.reasons) == 100 and bad.reasons["7.jpg: broken"] == 7


def test_each_counts_once_and_is_reported_once():
    bad = BadImages(2)
    for epoch in range(3):
        bad.add([Unreadable(0, "a.jpg: broken"), Unreadable(1, "b.jpg: broken")])
        lines = ["skipped: a.jpg: broken", "skipped: b.jpg: broken"]
        assert list(bad.new_lines()) == ([] if epoch else lines)
    assert list(bad.summary()) == [
        "skipped 2 images (--max-bad-images 2):",
        "  a.jpg: broken",
        "  b.jpg: broken",
    ]
    with pytest.raises(UserError, match="c.jpg: gone; this is one more than --max-bad-images 2"):
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
    with pytest.raises(UserError, match="b.jpg: broken; this is one more"):
        strict.merge_ranks(world)


def test_a_resumed_run_counts_and_does_not_report_again():
    bad = BadImages(1)
    bad.load_state_dict(["a.jpg: broken"])
    bad.add([Unreadable(0, "a.jpg: broken")])
    assert not list(bad.new_lines()) and bad.state_dict() == ["a.jpg: broken"]
    with pytest.raises(UserError, match="one more than --max-bad-images 1"):
        bad.add([Unreadable(1, "b.jpg: broken")])


def test_entries_of_unread_images_are_ignored():
    zeros = np.zeros((2, 3))
    split = Split("test", ["a", "b"], zeros.astype(np.uint8), zeros.astype(bool))
    assert ignore_unread(split, np.array([1, 0])).ignore.tolist() == [[False] * 3, [True] * 3]
    with pytest.raises(UserError, match="test.txt: none of its 2 images can be read"):
        ignore_unread(split, np.array([0, 0]))
