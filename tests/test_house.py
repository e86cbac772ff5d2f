"""The structure of the project: which room may import which, and what start-up costs.

The table of rooms in docs/architecture.md is the rule.
"""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from tests.helpers.imports import FILES, ROOT, imports

MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MAX_FILES = 14  # in a room
COMMANDS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("", "scripts", "benchmarks")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "run_main(" in path.read_text()
]
# room -> the rooms that it may import
ROOMS = {
    room: set(re.findall(r"`([\w.]+)`", allowed))
    for room, allowed in re.findall(r"^\| `([\w.]+)/?` \|.*\| ([^|]*) \|$", MAP, re.MULTILINE)
}
ENTRY_POINTS = {name for name in FILES if "." not in name} - {"lib", "models"}


def room_of(module: str) -> str:
    """`lib.data.sources.coco` -> `data`, `lib.config` -> `config`, `models.mlic` -> `models`."""
    first, *rest = module.split(".")
    return rest[0] if first == "lib" and rest else first


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_only_what_its_room_may(name):
    room = room_of(name)
    for other in imports(FILES[name]) - {"lib"}:
        if name in ENTRY_POINTS or room in ("scripts", "benchmarks"):
            allowed = room_of(other) not in ENTRY_POINTS | {"scripts", "benchmarks"} - {room}
        else:
            allowed = room == "lib" or room_of(other) in ROOMS[room] | {room}
        assert allowed, f"{name} imports {other}: not in docs/architecture.md"


def test_nothing_imports_itself_in_a_circle():
    TopologicalSorter(ROOMS).prepare()  # raises CycleError
    TopologicalSorter({name: imports(file) for name, file in FILES.items()}).prepare()


def test_the_rooms_of_lib():
    files = [file.relative_to(ROOT / "lib") for file in (ROOT / "lib").rglob("*.py")]
    rooms = {file.parts[0].removesuffix(".py") for file in files} - {"__init__"}
    assert rooms | {"models"} == set(ROOMS) and len(rooms) <= 11
    folders = [file.parent for file in files]
    assert all(folders.count(folder) <= MAX_FILES for folder in folders)
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_models_import_nothing_of_configuration_or_losses():
    for file in (ROOT / "models").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                roots = {name.split(".")[0] for name in names}
                assert not {"yaml", "argparse", "lib"} & roots, file


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_there_and_imports_little(command):
    slow = {"torch", "sklearn", "matplotlib", "PIL", "numpy"}
    if command == "benchmarks/gpu_check.py":
        slow.remove("numpy")
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{command!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({command!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        f"slow = {slow!r} & sys.modules.keys()\n"
        "assert not slow, slow\n"
    )
    sys_path = f"import sys; sys.path.insert(0, {str((ROOT / command).parent)!r})\n"
    result = subprocess.run(
        [sys.executable, "-c", sys_path + code], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout
