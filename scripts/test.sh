#!/usr/bin/env bash
# Set up the environment, then lint, check the format and run the tests. Arguments go to pytest.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-dev.txt

ruff check .
ruff format --check .
python -m pytest "$@"
