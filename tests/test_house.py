"""The structure of the project: which part may import which, and what start-up costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {
    "models": {"models"},
    "lib": {"models", "lib"},
    "scripts": {"models", "lib"},
    "benchmarks": {"models", "lib", "benchmarks"},
}
COMMANDS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("", "scripts", "benchmarks")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "run_main(" in path.read_text()
]


def imports(file: Path) -> set[str]:
    """Dotted names of all modules that `file` imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_parts(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)} & {
        *LAYERS,
        *(path.stem for path in ROOT.glob("*.py")),
        "tests",
    }


@pytest.mark.parametrize("layer", LAYERS)
def test_arrows_point_one_way(layer):
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for file in files:
        assert own_parts(file) <= LAYERS[layer], file


def test_models_know_nothing_of_configuration_or_losses():
    for file in (ROOT / "models").rglob("*.py"):
        assert not {"yaml", "argparse", "lib"} & {name.split(".")[0] for name in imports(file)}


def test_no_circle_inside_lib():
    modules = {f"lib.{path.stem}": path for path in (ROOT / "lib").glob("*.py")}
    graph = {name: imports(path) & set(modules) for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_there_and_imports_no_torch(command):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{command!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({command!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "assert 'torch' not in sys.modules, 'imports torch'\n"
    )
    sys_path = f"import sys; sys.path.insert(0, {str((ROOT / command).parent)!r})\n"
    result = subprocess.run(
        [sys.executable, "-c", sys_path + code], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_datasets_is_no_package():
    assert not (ROOT / "datasets" / "__init__.py").exists()
