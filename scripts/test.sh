#!/usr/bin/env bash
# Set up the environment, then lint, check the format and the types and run the tests, one process a
# core (at most four). Arguments go to pytest; -n 0 runs them in one process.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-dev.txt

ruff check .
ruff format --check .

# the types beside the tests, or they would add their whole time
types="$(mktemp)"
mypy models lib scripts ./*.py >"$types" 2>&1 &
checker=$!
trap 'kill "$checker" 2>/dev/null || true; rm -f "$types"' EXIT

# or every process would start threads on all cores
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# a file's tests in one process, so that no fixture is made twice
python -m pytest -n auto --maxprocesses 4 --dist loadfile "$@" && code=0 || code=$?

wait "$checker" && typed=0 || typed=$?
cat "$types"
exit "$((code ? code : typed))"
