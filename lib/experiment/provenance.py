"""What a run was made with: its command, package versions and git revision."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

LOGGED_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")


def command_line() -> list[str]:
    """The command that started this process."""
    return ["python", *sys.argv]


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    packages = {name: metadata.version(name) for name in LOGGED_PACKAGES}
    return {"Python": platform.python_version(), **packages}


def versions() -> str:
    """`package_versions` in one line."""
    return ", ".join(f"{name} {version}" for name, version in package_versions().items())


def git_revision() -> str:
    """The commit of this code, with `+changes` where the tree differs; `unknown` outside git."""
    root = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(root)]
    try:
        revision = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+changes" if changes else "")
