"""PNG figures by matplotlib, which is imported when the first one is drawn."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lib.common.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, PALE, ACCENT = "#2b5c8a", "#9db8d2", "#c05a1c"


@contextlib.contextmanager
def saved_figure(
    file: Path, size: tuple[float, float], layout: Literal["constrained"] | None = "constrained"
) -> Iterator["Figure"]:
    """Yield an empty figure of `size` (width, height) in inches, and write it to `file` at the end.

    Labels are text, never formulas. Without `layout` it is drawn in half the time, and the caller
    places the axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # drawn as a box
        figure = Figure(figsize=size, layout=layout)
        yield figure
        with atomic_write(file, "wb") as out:
            figure.savefig(out, format="png", dpi=120)
