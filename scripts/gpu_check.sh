#!/usr/bin/env bash
# Checks everything that needs a GPU on this machine's first one, in at most 8 minutes, without a
# network: kernel, architectures, steps, two processes, trainings, loader, commands, what changes
# from GPU to GPU. Writes gpu_check.md and gpu_check.json to --out (default: gpu_check). Takes the
# python that is active, which must have the packages of requirements.txt.
#   bash scripts/gpu_check.sh [--out DIR] [--device cpu]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

command -v python >/dev/null && python=python || python=python3
"$python" - <<'PYTHON' || exit 2
import importlib.util
import sys

names = "torch torchvision timm numpy PIL scipy sklearn tqdm yaml tensorboard jinja2 werkzeug msgspec"
missing = [name for name in names.split() if not importlib.util.find_spec(name)]
if missing:
    sys.exit(
        f"gpu_check.sh: error: {sys.executable} lacks {', '.join(missing)}: "
        "install them (pip install -r requirements.txt)"
    )
PYTHON
exec "$python" "$root/benchmarks/gpu_check.py" "$@"
