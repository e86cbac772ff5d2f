# Sourced by demo.sh and test.sh: goes to the repository's root, makes or enters a virtual environment
# and installs the requirement files named as arguments. Skips the install while they are unchanged.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "$(basename "$0"): error: $*" >&2
  exit 2
}

use_environment() {
  # a conda environment is none of these: its base is shared by all of a user's projects
  if ! python -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null; then
    if [ ! -f .venv/bin/activate ]; then
      command -v python3 >/dev/null || fail "python3 was not found; install Python 3.11 or newer"
      require_version python3
      echo "making .venv"
      python3 -m venv .venv || fail "python3 -m venv failed; install Python's venv package"
    fi
    . .venv/bin/activate
  fi
  require_version python
}

require_version() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed, found $("$1" --version)"
}

install_requirements() {
  local stamp done_file
  done_file="$(python -c 'import sys; print(sys.prefix)')/.sgre-requirements-$(basename "$1" .txt)"
  stamp="$(cat requirements*.txt | cksum)"
  if [ "$(cat "$done_file" 2>/dev/null)" != "$stamp" ]; then
    echo "installing $1"
    python -m pip install --quiet --disable-pip-version-check -r "$1" ||
      fail "the packages of $1 could not be installed"
    echo "$stamp" >"$done_file" 2>/dev/null || true
  fi
}

use_environment
for file in "$@"; do
  install_requirements "$file"
done
