"""Text to print and to store: untrusted names made safe for one line, and tables in Markdown."""

import re
from collections.abc import Iterator, Sequence

# C0 and C1 controls, Unicode line ends, bidirectional controls, lone surrogates
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# what XML 1.0 cannot hold, with the white space that it changes
_NOT_IN_XML = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def fits_xml(text: str) -> bool:
    """Whether XML can hold `text` in one line, unchanged."""
    return not _NOT_IN_XML.search(text)


def escape_controls(text: str, keep: str = "") -> str:
    """`text` with its control characters, except those in `keep`, escaped.

    A terminal then shows them instead of obeying them, and one log entry stays one line.
    """

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        if character in keep:
            return character
        return character.encode("unicode_escape", "surrogatepass").decode()

    return _CONTROLS.sub(escape, text)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """The lines of a table in Markdown; floats have four digits."""
    for row in (header, ["---"] * len(header), *rows):
        yield "| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |"
