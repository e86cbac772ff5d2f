"""SIGINT and SIGTERM while a run trains: the step is finished first."""

import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Inside its block, notes the first signal as `signum` (0: none); a second ends at once."""

    def __init__(self) -> None:
        self.signum = 0

    def __enter__(self) -> "StopRequest":
        self._former = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            sys.exit(128 + signum)
        self.signum = signum
