"""SIGINT and SIGTERM: what must not be left half-done, as a step of training, is finished first."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Inside its block, notes the first signal as `signum` (0: none); a second ends at once.

    Within `echo` seconds it is the same one once more: what goes to all processes of a job reaches
    them from outside and from their launcher.
    """

    def __init__(self, echo: float = 0.0) -> None:
        self.signum, self.echo, self.since = 0, echo, 0.0

    def __enter__(self) -> "StopRequest":
        self._former = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if not self.signum:
            self.signum, self.since = signum, time.monotonic()
        elif time.monotonic() - self.since > self.echo:
            sys.exit(128 + signum)


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block has ended."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets them
        yield
        return
    waiting: list[int] = []
    former = {
        signum: signal.signal(signum, lambda signum, frame: waiting.append(signum))
        for signum in SIGNALS
    }
    try:
        yield
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)
        for signum in waiting[:1]:
            signal.raise_signal(signum)
