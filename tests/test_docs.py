"""What the documents name is there."""

import re

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


def test_every_test_that_fidelity_names_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "fidelity.md").read_text()))
    assert len(named) > 50 and named <= TESTS, named - TESTS


def test_every_promise_of_security_names_its_tests():
    lines = (ROOT / "SECURITY.md").read_text().splitlines()
    promises = [line for line in lines if re.match(r"\d+\. (?!Not promised)", line)]
    assert len(promises) == 7
    for promise in promises:
        named = set(re.findall(r"`(test_\w+)`", promise))
        assert named and named <= TESTS, named - TESTS


@pytest.mark.parametrize("page", PAGES)
def test_links_and_commands_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target
    for script in re.findall(r"^(?:python|bash) ([\w/]+\.(?:py|sh))", text, re.MULTILINE):
        assert (ROOT / script).exists(), script


@pytest.mark.parametrize("page", PAGES)
def test_training_commands_parse(page):
    text = (ROOT / page).read_text().replace("\\\n", " ")
    for flags in re.findall(r"^python train\.py(.*)$", text, re.MULTILINE):
        if "--help" not in flags:
            Config.parse(flags.split("#")[0].split())
