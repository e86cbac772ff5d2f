"""Text of files and names that others made, safe to print and to keep in a line."""

import re

# C0 and C1 controls, line ends of Unicode, what turns the direction of writing, lone surrogates
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape_controls(text: str, keep: str = "") -> str:
    """`text` with its control characters, but those of `keep`, spelt out.

    A terminal shows them then and does not obey; a log keeps to its lines.
    """

    def spelt(match: re.Match) -> str:
        character = match[0]
        if character in keep:
            return character
        return character.encode("unicode_escape", "surrogatepass").decode()

    return _CONTROLS.sub(spelt, text)
