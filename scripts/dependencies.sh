#!/usr/bin/env bash
# Tests with the oldest and with the newest packages that requirements.txt admits, each in an
# environment of its own that is thrown away; then pip check and the licences. Takes about an hour
# and several GB. Arguments go to pytest: bash scripts/dependencies.sh tests/lib
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# the lower bounds: of 1.26 its last release, of 1.0.22 that one
sed -n -e 's/^\([A-Za-z0-9_-]*\)>=\([0-9]*\.[0-9]*\)\(,.*\)\{0,1\}$/\1==\2.*/p' \
  -e 's/^\([A-Za-z0-9_-]*\)>=\([0-9]*\.[0-9]*\.[0-9]*\)\(,.*\)\{0,1\}$/\1==\2/p' \
  requirements.txt >"$work/oldest.txt"
: >"$work/newest.txt"

# licences that bind whoever passes a package on; the LGPL does not bind those who import it
copyleft="GPL;AGPL;GPL-2.0-only;GPL-2.0-or-later;GPL-3.0-only;GPL-3.0-or-later;AGPL-3.0-only;\
AGPL-3.0-or-later;GNU General Public License (GPL);GNU General Public License v2 (GPLv2);\
GNU General Public License v2 or later (GPLv2+);GNU General Public License v3 (GPLv3);\
GNU General Public License v3 or later (GPLv3+);GNU Affero General Public License v3;\
GNU Affero General Public License v3 or later (AGPLv3+)"

for set in oldest newest; do
  echo "== the $set packages"
  python3 -m venv "$work/$set"
  "$work/$set/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r requirements-dev.txt -c "$work/$set.txt"
  "$work/$set/bin/python" -m pip check
  "$work/$set/bin/pip-licenses" --fail-on "$copyleft"
  "$work/$set/bin/python" -m pytest -q "$@"
  rm -rf "${work:?}/$set"
done
echo "both sets pass"
