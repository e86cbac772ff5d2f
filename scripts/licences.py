"""List the packages that this project needs, and those that they need: version and licence.

Ends with exit code 2 where one is missing, or has a licence that forbids what MIT allows.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, run_main
from lib.common.errors import UserError

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"
# of packages that their licences bind whoever passes them on; the LGPL does not bind who imports
COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)


def main() -> None:
    Parser(description=__doc__).parse_args()
    from lib.common.console import print_line

    found = {}
    for name in sorted(needed(requirement_names(REQUIREMENTS.read_text().splitlines()))):
        found[name] = metadata.version(name), licence_of(name)
    width = max(map(len, found))
    for name, (version, licence) in found.items():
        print_line(f"{name.ljust(width)}  {version:<14} {licence}")
    if bound := [name for name, (_, licence) in found.items() if COPYLEFT.search(licence)]:
        raise UserError(f"{', '.join(bound)}: binds whoever passes it on, unlike MIT; replace it")


def requirement_names(lines: list[str]) -> list[str]:
    """The packages that lines of a requirement file, or of a package's facts, name."""
    matches = (re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line) for line in lines)
    return [match[0] for match in matches if match]


def needed(names: list[str]) -> set[str]:
    """`names` and all that they need here, without extras; of other platforms nothing."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            if name in requirement_names(REQUIREMENTS.read_text().splitlines()):
                raise UserError(f"{name}: not installed: pip install -r requirements.txt") from None
            continue  # what another platform or Python needs
        found.add(name)
        waiting += requirement_names([line for line in requirements if "extra ==" not in line])
    return found


def licence_of(name: str) -> str:
    """The licence in the words of the package, as short as they come."""
    facts = metadata.metadata(name)
    classifiers = [
        line.rsplit(" :: ", 1)[-1]
        for line in facts.get_all("Classifier", [])
        if line.startswith("License ::")
    ]
    text = facts.get("License-Expression") or ", ".join(classifiers) or facts.get("License") or "?"
    return " ".join(text.split())[:60]


if __name__ == "__main__":
    run_main(main)
