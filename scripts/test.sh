#!/usr/bin/env bash
# Set up the environment, then lint, check the format and run the tests, one process a core (at most
# four). Arguments go to pytest; -n 0 runs them in one process.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-dev.txt

ruff check .
ruff format --check .
# or every process would start threads on all cores
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
python -m pytest -n auto --maxprocesses 4 "$@"
