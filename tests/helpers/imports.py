"""Follows the imports of the project, to say what a module may touch and how much there is to read.

`python -m tests.helpers.imports` prints the modules and lines that each entry point reaches.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    _module_name(file): file
    for folder in ("models", "lib", "scripts", "benchmarks")
    for file in sorted((ROOT / folder).rglob("*.py"))
} | {file.stem: file for file in sorted(ROOT.glob("*.py"))}


def imports(file: Path) -> set[str]:
    """The project's modules that `file` imports anywhere in it."""
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
        found |= {name} - {""}
    return found


def reached(entry: str) -> set[str]:
    """The modules that a reader meets who follows every import from `entry`, itself included.

    The heads count too, which are imported by their names in `models.heads.HEADS`.
    """
    seen: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += imports(FILES[name])
            package = name.rpartition(".")[0]
            waiting += [package] if package in FILES else []
            if name == "models.classifier":
                waiting += [module for module in FILES if module.startswith("models.heads.")]
    return seen


def lines(files: list[Path]) -> int:
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


if __name__ == "__main__":
    for command in ("train", "evaluate", "infer"):
        modules = reached(command)
        total = lines([FILES[name] for name in modules])
        print(f"{command}.py: {len(modules)} modules, {total:,} lines")
    code = [
        file for name, file in FILES.items() if name.split(".")[0] in ("lib", "models", "scripts")
    ]
    print(f"lib, models and scripts: {lines(code):,} lines")
    print(f"tests: {lines(list((ROOT / 'tests').rglob('*.py'))):,} lines")
