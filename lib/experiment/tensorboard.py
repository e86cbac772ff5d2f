"""TensorBoard's events of a run."""

import contextlib
import threading
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from lib.common.errors import UserError, writing

EVENTS = "events.out.tfevents"  # prefix of its file names


class TensorBoard:
    """Writes scalars to `folder` (None: nowhere); they replace earlier ones from `first_step` on.

    TensorBoard writes in a thread of its own and reports a full disk at any later call, which then
    raises `UserError`.
    """

    def __init__(self, folder: Path | None, first_step: int) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None
        if folder:
            threading.excepthook = _print_unless_reported
            with writing(folder / EVENTS):
                self.writer = SummaryWriter(folder, purge_step=first_step)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._call("add_scalar", name, value, step)

    def flush(self) -> None:
        self._call("flush")

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        with contextlib.suppress(UserError) if error else contextlib.nullcontext():
            self._call("close")

    def _call(self, name: str, *arguments: Any) -> None:
        if self.writer and self.folder:
            with writing(self.folder / EVENTS):
                getattr(self.writer, name)(*arguments)


def _print_unless_reported(failure: threading.ExceptHookArgs) -> None:
    """Print what ended a thread; a full disk in TensorBoard's is reported by its next call."""
    ours = type(failure.thread).__module__.startswith("tensorboard.")
    if not (ours and issubclass(failure.exc_type, OSError)):
        threading.__excepthook__(failure)
