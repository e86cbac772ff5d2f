"""SIGINT and SIGTERM while a run trains: the step is finished first."""

import signal
import sys
import time
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
