"""The structure of the project: which room may import which, and what start-up costs.

The table of rooms in docs/architecture.md is the rule; each room repeats its own row.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MAX_FILES = 14  # in a room
COMMANDS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("", "scripts", "benchmarks")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "run_main(" in path.read_text()
]


def table_of_rooms() -> dict[str, set[str]]:
    """Room -> the rooms that it may import, as the document says."""
    rows = re.findall(r"^\| `([\w.]+)/?` \|.*\| ([^|]*) \|$", MAP, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return {room: set(re.findall(r"`([\w.]+)`", allowed)) for room, allowed in rows}


ROOMS = table_of_rooms()


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`lib.data.sources.coco` -> `data`, `lib.config` -> `config`, `models.mlic` -> `models`."""
    first, *rest = module.split(".")
    return rest[0] if first == "lib" and rest else first


FILES = {
    module_name(file): file
    for folder in ("models", "lib", "scripts", "benchmarks")
    for file in sorted((ROOT / folder).rglob("*.py"))
} | {file.stem: file for file in sorted(ROOT.glob("*.py"))}
ENTRY_POINTS = {name for name in FILES if "." not in name} - {"lib", "models"}


def imports(file: Path) -> set[str]:
    """The project's modules that `file` imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        while name and name not in FILES:
            name = name.rpartition(".")[0]
        found |= {name} - {"", "lib", "models"}
    return found


ARROWS = {name: imports(file) for name, file in FILES.items()}


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_only_what_its_room_may(name):
    room = room_of(name)
    for other in ARROWS[name]:
        if name in ENTRY_POINTS or room in ("scripts", "benchmarks"):
            allowed = room_of(other) not in ENTRY_POINTS | {"scripts", "benchmarks"} - {room}
        else:
            allowed = room_of(other) in ROOMS[room] | {room}
        assert allowed, f"{name} imports {other}: not in docs/architecture.md"


def test_no_module_imports_itself_in_a_circle():
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in ARROWS[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in FILES:
        visit(name, ())


def test_rooms_import_each_other_in_one_direction():
    done: set[str] = set()

    def visit(room: str, trail: tuple[str, ...]) -> None:
        assert room not in trail, " -> ".join([*trail, room])
        if room not in done:
            for other in ROOMS[room]:
                visit(other, (*trail, room))
            done.add(room)

    for room in ROOMS:
        visit(room, ())


def test_the_rooms_of_lib():
    folders = {path.name for path in (ROOT / "lib").iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in (ROOT / "lib").glob("*.py")} - {"__init__"}
    assert len(folders) <= 9 and modules == {"config", "predictor"}
    assert folders | modules | {"models"} == set(ROOMS)
    for folder in (ROOT / "lib").rglob("__init__.py"):
        assert len(list(folder.parent.glob("*.py"))) <= MAX_FILES, folder.parent


@pytest.mark.parametrize(
    "room", [room for room in ROOMS if (ROOT / "lib" / room / "__init__.py").exists()]
)
def test_a_room_says_what_it_may_import(room):
    text = ast.get_docstring(ast.parse((ROOT / "lib" / room / "__init__.py").read_text()))
    said = re.fullmatch(r".+\n\nMay import: (.*)\.", text, re.DOTALL)
    names = set(said[1].split(", ")) - {"nothing of the project"}
    assert names == ROOMS[room]


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


def test_datasets_is_no_package():
    assert not (ROOT / "datasets" / "__init__.py").exists()
