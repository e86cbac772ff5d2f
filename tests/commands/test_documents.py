"""The commands and the Python of the documents, run in their order in a folder of toys.

Those that need a data set, the hub or a browser are only parsed.
"""

import argparse
import functools
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import ROOT, make_data, make_experiment, run, run_here

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("", "docs", "experiments", "datasets")
    for path in (ROOT / folder).glob("*.md")
)
NEEDS = (
    "$(",
    "--serve",
    "hf://",
    "voc",
    "mscoco",
    "NUS",
    "Visual",
    "embedding.py",
    "compare_heads",
)
# given after a training's own flags, which they replace
TINY = (
    "--arch test_resnet --weights none --embed-type random --img-size 32 --output-stride 32"
    " --batch-size 4 --max-epochs 1 --limit 4 --workers 0"
).split()
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Parsed(Exception):
    """A command line is understood."""


def commands(page: str) -> list[str]:
    """The `python` commands of a page, each in one line, without `> file`."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.split(" >")[0] for line in lines if re.match(r"python \S+\.py\b", line)]


@functools.cache
def page_commands() -> dict[str, list[str]]:
    return {page: found for page in PAGES if (found := commands(page))}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with what the documents speak of: data, experiments and photographs, enough of them
    to tune thresholds on a tenth."""
    folder = tmp_path_factory.mktemp("documents")
    for name, images, labels in (("digits", 16, DIGITS), ("pets", 80, ("blue", "green", "red"))):
        data = make_data(folder, images, labels, name)
        for number in ("exp1", "exp2"):
            make_experiment(folder, "--data", name, name=f"mlic_{name}/{number}")
    shutil.copytree(data, folder / "data" / "mydata")
    for target in ("photos", "new_photos", "a/folder", "data/digits/images/test"):
        shutil.copytree(data / "images", folder / target)
    for name in ("photo.jpg", "other.jpg", "data/digits/images/test/00000.jpg"):
        Image.open(data / "images" / "test0.png").save(folder / name)
    rows = (data / "train.txt").read_text() + (data / "test.txt").read_text()
    table = "".join(
        f'{Path(path).name},"{labels}"\n'
        for path, labels in (r.split("\t") for r in rows.splitlines())
    )
    (folder / "photos.csv").write_text("image,labels\n" + table)
    done = run("evaluate.py", "--exp-dir", "experiments/mlic_digits/exp2", cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def inside(home, tmp_path, monkeypatch):
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", page_commands())
def test_commands_of_the_documents(page, inside, monkeypatch, capsys):
    for command in page_commands()[page]:
        words = shlex.split(command, comments=True)[1:]
        if any(need in command for need in NEEDS):
            parses(words, monkeypatch, capsys)
            continue
        tiny = TINY if words[0] == "train.py" else []
        result = run_here(monkeypatch, capsys, *words, *tiny)
        assert result.code == 0, (command, result.err)


def parses(words: list[str], monkeypatch, capsys) -> None:
    """Run a command as far as its command line."""
    parse = argparse.ArgumentParser.parse_args

    def stop(parser, arguments=None, namespace=None):
        parse(parser, arguments, namespace)
        raise Parsed

    with monkeypatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        result = run_here(patch, capsys, *words)
        raise AssertionError(result)


@pytest.mark.parametrize("page", ["README.md", "docs/inference.md", "docs/sharing.md"])
def test_python_of_the_documents(page, inside, monkeypatch, capsys):
    if page == "docs/sharing.md":  # its first commands make the folder
        for command in page_commands()[page][:2]:
            assert run_here(monkeypatch, capsys, *shlex.split(command)[1:]).code == 0
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
    )
    exec(compile(block, page, "exec"), {})
    out = capsys.readouterr().out
    assert re.search(r"\[\[\d" if page == "docs/sharing.md" else r"'scores': \[", out), out
