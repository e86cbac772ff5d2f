"""Images that turn out unreadable: borne up to a number, counted once, listed."""

import numpy as np
import pytest
import torch

from lib.common.errors import UserError
from lib.data.bad_images import BadImages, Unreadable, refuse, without_unread
from lib.data.folder import Split
from lib.runtime.world import World


def test_none_is_borne_unless_allowed():
    with pytest.raises(UserError, match="a.jpg: broken; mend it, .* with --max-bad-images$"):
        BadImages().meet([Unreadable(0, "a.jpg: broken")])


def test_by_default_the_first_is_named():
    refuse([])
    with pytest.raises(UserError, match="^a.jpg: broken; mend it or leave it out$"):
        refuse([Unreadable(3, "a.jpg: broken"), Unreadable(5, "b.jpg: broken")])


def test_each_counts_once_and_is_told_at_once():
    told = []
    bad = BadImages(2, told.append)
    for _ in range(3):  # epochs
        bad.meet([Unreadable(0, "a.jpg: broken"), Unreadable(0, "b.jpg: broken")])
    assert told == ["skipped: a.jpg: broken", "skipped: b.jpg: broken"]
    assert list(bad.summary()) == [
        "skipped 2 images (--max-bad-images 2):",
        "  a.jpg: broken",
        "  b.jpg: broken",
    ]
    with pytest.raises(UserError, match="c.jpg: gone; it is one more than --max-bad-images 2"):
        bad.meet([Unreadable(0, "c.jpg: gone")])


def test_processes_learn_of_each_others_images():
    class Pair(World):
        def gather(self, value):
            return [value, ["b.jpg: broken"]] if isinstance(value, list) else [value]

    world = Pair(torch.device("cpu"))
    bad = BadImages(2, str)
    bad.meet([Unreadable(0, "a.jpg: broken")])
    bad.agree(world)
    assert list(bad.reasons) == ["a.jpg: broken", "b.jpg: broken"]
    strict = BadImages(1, str)
    strict.meet([Unreadable(0, "a.jpg: broken")])
    with pytest.raises(UserError, match="b.jpg: broken; it is one more"):
        strict.agree(world)


def test_entries_of_unread_images_count_for_nothing():
    zeros = np.zeros((2, 3))
    split = Split("test", ["a", "b"], zeros.astype(np.uint8), zeros.astype(bool))
    assert without_unread(split, np.array([1, 0])).ignore.tolist() == [[False] * 3, [True] * 3]
    with pytest.raises(UserError, match="test.txt: none of its 2 images can be read"):
        without_unread(split, np.array([0, 0]))
