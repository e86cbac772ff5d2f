"""Tables in Markdown, for the output of a benchmark and for `LOG.md`; imports no torch."""

from collections.abc import Iterator, Sequence


def table_lines(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """The lines of a table; floats have four digits."""
    for row in (header, ["---"] * len(header), *rows):
        yield "| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |"
