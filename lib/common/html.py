"""The pages that a run is looked at with: HTML that opens from the disk and needs no network; and
the card of a model, in Markdown.

Every page extends `templates/base.html`, which has the blocks style, navigation, main and scripts.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lib.common.files import write_text

TEMPLATES = Path(__file__).parent / "templates"


def write_page(file: Path, template: str, *, title: str, facts: str, **values: Any) -> None:
    """Write the page that `template` makes of `values`; whatever is text stays text.

    `title` is its heading, `facts` the line below.
    """
    write_text(file, render(template, title=title, facts=facts, **values))


def render(template: str, **values: Any) -> str:
    """The text of `template` with `values`, which are escaped unless it says otherwise."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
