#!/usr/bin/env bash
# Runs tsjax on this machine, in a virtual environment of its own.
# launch/test.sh reads this file for the functions `fail` and `prepare`.
set -euo pipefail

root="$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

usage() {
  cat <<'TEXT'
Usage: launch/local.sh [ARGUMENT ...]

Runs `python -m tsjax ARGUMENT ...` on this machine and exits with its code.
The first call makes a virtual environment in the repository and installs tsjax
there; later calls install again only after pyproject.toml has changed.

Works from any folder: relative paths in the arguments start at the folder that
it is called from.

Environment:
  PYTHON      the interpreter that makes the virtual environment (3.11 or newer;
              default: the first of python3.11, python3.12 and python3 that is)
  TSJAX_VENV  the folder of the virtual environment (default: .venv in the
              repository)

  -h, --help  as the first argument: prints this text. The options of tsjax
              itself: launch/local.sh -- --help
TEXT
}

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Prints an interpreter that can make the virtual environment.
interpreter() {
  local candidate
  local candidates=("${PYTHON:-}")
  if [[ -z "${PYTHON:-}" ]]; then
    candidates=(python3.11 python3.12 python3)
  fi
  for candidate in "${candidates[@]}"; do
    # Asked rather than looked up: a shim may stand for a Python that is not
    # there, and Debian ships Pythons without ensurepip.
    if "$candidate" -c 'import ensurepip, sys, venv
sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer with venv and ensurepip (tried:" \
    "${candidates[*]}); install one, or name one: PYTHON=/path/to/python3.12"
}

# Sets `python` to the interpreter of a virtual environment in which this
# checkout is installed with the given extra ("" for none).
prepare() {
  local extra="$1" venv="${TSJAX_VENV:-$root/.venv}" base installed wanted stamp
  python="$venv/bin/python"
  wanted="$root"$'\n'"$(cat "$root/pyproject.toml")"
  # The test extra contains all that a run needs.
  for installed in "$extra" test; do
    stamp="$venv/.tsjax-installed${installed:+-$installed}"
    if [[ -x "$python" && -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
      return
    fi
  done
  if ! "$python" -m pip --version >/dev/null 2>&1; then
    # Assigned apart from `local`, which would hide the failure.
    base="$(interpreter)"
    echo "${0##*/}: making a virtual environment in $venv" >&2
    "$base" -m venv "$venv" || fail "could not make $venv"
  fi
  echo "${0##*/}: installing tsjax${extra:+[$extra]} into $venv" \
    "(minutes the first time)" >&2
  # One command, so that the pins of all extras hold for all dependencies.
  "$python" -m pip install --quiet --quiet --editable "$root${extra:+[$extra]}" >&2 ||
    fail "could not install tsjax into $venv"
  printf '%s\n' "$wanted" >"$venv/.tsjax-installed${extra:+-$extra}"
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  case "${1:-}" in
    -h | --help)
      usage
      exit 0
      ;;
    --) shift ;;
  esac
  prepare ""
  exec "$python" -m tsjax "$@"
fi
