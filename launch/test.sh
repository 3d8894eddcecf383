#!/usr/bin/env bash
# Runs the tests on this machine, in a virtual environment of its own.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: launch/test.sh [ARGUMENT ...]

Runs `python -m pytest ARGUMENT ...` and exits with its code. Without arguments
it runs the default suite, all tests that are not marked slow. The first call
makes a virtual environment in the repository and installs tsjax[test] there;
later calls install again only after pyproject.toml has changed.

Works from any folder: relative paths in the arguments start at the repository.

  launch/test.sh                    the default suite
  launch/test.sh tests/core         one folder
  launch/test.sh -m slow            the slow tests
  launch/test.sh -m "slow or not slow"   both

Environment: PYTHON and TSJAX_VENV, as in launch/local.sh --help.

  -h, --help  as the first argument: prints this text. The options of pytest:
              launch/test.sh -- --help
TEXT
}

case "${1:-}" in
  -h | --help)
    usage
    exit 0
    ;;
  --) shift ;;
esac

# shellcheck source=launch/local.sh
source "$(dirname "${BASH_SOURCE[0]}")/local.sh"
# A relative TSJAX_VENV starts at the caller's folder, as in local.sh.
if [[ -n "${TSJAX_VENV:-}" && "$TSJAX_VENV" != /* ]]; then
  TSJAX_VENV="$PWD/$TSJAX_VENV"
fi
prepare test
cd "$root"
exec "$python" -m pytest "$@"
