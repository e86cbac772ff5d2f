"""What the documents name is there."""

import functools
import re
import subprocess
import sys

import pytest

from lib.config import Config
from tests.helpers.commands import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("", "docs", "experiments", "datasets")
    for path in (ROOT / folder).glob("*.md")
)
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("page", ["docs/fidelity.md", "SECURITY.md"])
def test_tests_that_pages_name_exist(page):
    named = set(re.findall(r"`(test_\w+)`", (ROOT / page).read_text()))
    assert len(named) > 10 and named <= TESTS, named - TESTS


@pytest.mark.parametrize("page", PAGES)
def test_links_and_commands_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target
    for script in re.findall(r"^(?:python|bash) ([\w/]+\.(?:py|sh))", text, re.MULTILINE):
        assert (ROOT / script).exists(), script


def anchors(page: str) -> set[str]:
    """What `#...` in a link to a page may name: its headings, as GitHub spells them."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {one.replace(" ", "-") for one in words}


@pytest.mark.parametrize("page", PAGES)
def test_links_into_pages_name_a_heading(page):
    text = (ROOT / page).read_text()
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert anchor in anchors(str(file)), (target, anchor)


@pytest.mark.parametrize("page", PAGES)
def test_training_commands_parse(page):
    text = (ROOT / page).read_text().replace("\\\n", " ")
    for flags in re.findall(r"^python train\.py(.*)$", text, re.MULTILINE):
        if "--help" not in flags:
            Config.parse(flags.split("#")[0].split())


@functools.cache
def flags_of(script: str) -> set[str]:
    """The flags that a command's help names."""
    command = [sys.executable, script, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"--[a-z][\w-]*", done.stdout))


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_flags_that_pages_give_them(page):
    text = (ROOT / page).read_text().replace("\\\n", " ")
    for script, rest in re.findall(
        r"^(?:python|torchrun .*?) ([\w/]+\.py)(.*)$", text, re.MULTILINE
    ):
        named = set(re.findall(r" (--[a-z][\w-]*)", rest.split(" # ")[0]))
        known = flags_of(script)
        if script == "scripts/compare_heads.py":
            known = known | flags_of("train.py")
        assert named <= known, (script, named - known)
