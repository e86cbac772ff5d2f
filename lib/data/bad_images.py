"""Images that cannot be read: how many a run tolerates (`--max-bad-images`), and which they are."""

from collections.abc import Iterable, Iterator

import numpy as np

from lib.common.errors import UserError
from lib.data.dataset import Unreadable
from lib.data.split import Split
from lib.runtime.world import World


class BadImages:
    """The unreadable images that a run has found; tolerates `limit` of them, None for any number.

    `reasons` maps the line of each to its row, in the order in which they were found.
    """

    def __init__(self, limit: int | None = 0) -> None:
        self.limit = limit
        self.reasons: dict[str, int] = {}
        self.num_reported = 0

    def add(self, images: Iterable[Unreadable]) -> None:
        """Record images. Raises `UserError` for one more than `limit`."""
        for row, reason in images:
            if reason in self.reasons:
                continue
            if self.limit == 0:
                raise UserError(
                    f"{reason}; fix or remove it, or tolerate some with --max-bad-images"
                )
            if self.limit is not None and len(self.reasons) >= self.limit:
                raise UserError(
                    f"{reason}; this is one more than --max-bad-images {self.limit} allows: fix or "
                    "remove them, or allow more"
                )
            self.reasons[reason] = row

    def merge_ranks(self, world: World) -> None:
        """Add the images that the other ranks of `world` have found."""
        with world.raise_on_all_ranks():
            for reasons in world.gather(self.reasons):
                self.add(Unreadable(row, reason) for reason, row in reasons.items())

    def new_lines(self) -> Iterator[str]:
        """A line for each image that was found since the last call."""
        reasons = list(self.reasons)[self.num_reported :]
        self.num_reported = len(self.reasons)
        return (f"skipped: {reason}" for reason in reasons)

    def summary(self) -> Iterator[str]:
        """Lines for the end of a run: how many images were skipped, and each of them."""
        if self.reasons:
            yield f"skipped {len(self.reasons)} images (--max-bad-images {self.limit}):"
            yield from (f"  {reason}" for reason in self.reasons)

    def state_dict(self) -> list[str]:
        """The lines found so far, for a checkpoint."""
        return list(self.reasons)

    def load_state_dict(self, reasons: list[str]) -> None:
        """Restore `state_dict`; what it holds was reported before."""
        self.reasons = dict.fromkeys(reasons, -1)
        self.num_reported = len(self.reasons)


def ignore_unread(split: Split, read: np.ndarray) -> Split:
    """`split` with all entries ignored of the images that `read` (N,) marks as not read.

    Raises `UserError` if none was read.
    """
    if not read.any():
        raise UserError(f"{split.name}.txt: none of its {len(split)} images can be read")
    return split.without(~read.astype(bool))
