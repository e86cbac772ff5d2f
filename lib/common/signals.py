"""SIGINT and SIGTERM: finish first what must not stay half-done, such as a training step."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Inside its block, records the first signal as `signum` (0: none); a second one exits at once.

    A second signal within `echo` seconds is ignored: a signal to all processes of a job reaches
    each of them twice, directly and through their launcher.
    """

    def __init__(self, echo: float = 0.0) -> None:
        self.signum, self.echo, self.since = 0, echo, 0.0

    def __enter__(self) -> "StopRequest":
        self._handlers = {signum: signal.signal(signum, self._record) for signum in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    def _record(self, signum: int, frame: FrameType | None) -> None:
        if not self.signum:
            self.signum, self.since = signum, time.monotonic()
        elif time.monotonic() - self.since > self.echo:
            sys.exit(128 + signum)


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block has ended."""
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread
        yield
        return
    waiting: list[int] = []
    handlers = {
        signum: signal.signal(signum, lambda signum, frame: waiting.append(signum))
        for signum in SIGNALS
    }
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if waiting:
            signal.raise_signal(waiting[0])
