"""Images that a run cannot read: how many it bears (`--max-bad-images`), and which they were."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.data.folder import Split
from lib.runtime.world import World


class Unreadable(NamedTuple):
    """An image of a split that could not be read; `reason` is one line that names the file."""

    index: int
    reason: str


def refuse(unreadable: Sequence[Unreadable]) -> None:
    """Raise a `UserError` that names the first of the images that could not be read, if any."""
    if unreadable:
        raise UserError(f"{unreadable[0].reason}; mend it or leave it out")


class BadImages:
    """Bears `limit` different images that cannot be read, and no more.

    `reasons` holds a line for each that was met, which names it; `tell` hears of it at once.
    """

    def __init__(self, limit: int = 0, tell: Callable[[str], None] = print_line) -> None:
        self.limit, self.tell = limit, tell
        self.reasons: dict[str, None] = {}  # in the order in which they were met

    def meet(self, unreadable: Sequence[Unreadable]) -> None:
        """Take note of images that cannot be read. Raises `UserError` for one more than `limit`."""
        self._note(image.reason for image in unreadable)

    def agree(self, world: World) -> None:
        """Learn of the images that the other processes of `world` have met."""
        with world.raise_on_all_ranks():
            for reasons in world.gather(list(self.reasons)):
                self._note(reasons)

    def summary(self) -> Iterator[str]:
        """Lines to end with: how many images were skipped, and each of them."""
        if self.reasons:
            yield f"skipped {len(self.reasons)} images (--max-bad-images {self.limit}):"
            yield from (f"  {reason}" for reason in self.reasons)

    def _note(self, reasons: Iterable[str]) -> None:
        for reason in reasons:
            if reason in self.reasons:
                continue
            if not self.limit:
                raise UserError(
                    f"{reason}; mend it, leave it out, or allow for some with --max-bad-images"
                )
            if len(self.reasons) >= self.limit:
                raise UserError(
                    f"{reason}; it is one more than --max-bad-images {self.limit} allows: mend "
                    "them, leave them out, or allow for more"
                )
            self.reasons[reason] = None
            self.tell(f"skipped: {reason}")


def without_unread(split: Split, read: np.ndarray) -> Split:
    """`split` with all entries of the images ignored that `read` (N,) says were not read.

    Raises `UserError` where none was.
    """
    if not read.any():
        raise UserError(f"{split.name}.txt: none of its {len(split)} images can be read")
    return Split(split.name, split.paths, split.targets, split.ignore | ~read.astype(bool)[:, None])
