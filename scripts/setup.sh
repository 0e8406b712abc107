#!/usr/bin/env bash
# Creates .venv with the pinned third-party packages and Parley's own in editable form, and .state/node with the Node
# packages that tests use (Node itself comes with the Python packages). Needs Python 3.11 or newer with venv, and for the
# tests curl and redis-server; installs Debian's packages when run as root on Debian, else says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"

apt_install() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # The tests start servers of their own: RUNLEVEL=1 keeps those that packages bring from starting.
    apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  fi
}
have_python() {
  "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
have_python || apt_install python3 python3-venv
have_python || { echo "Parley needs Python 3.11 or newer with the venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
command -v redis-server >/dev/null || apt_install redis-server
command -v redis-server >/dev/null ||
  echo "The tests of shared limits need redis-server 7 or newer (Debian: apt-get install redis-server)" >&2
command -v curl >/dev/null || apt_install curl
command -v curl >/dev/null || echo "The tests of clients need curl (Debian: apt-get install curl)" >&2

[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install --require-hashes -r requirements/dev.txt
"${pip[@]}" install --no-deps --no-build-isolation \
  -e protos -e packages/common -e services/formatter -e services/llm -e services/gateway

# Outside the source tree, so that no linter or image build meets the packages. `npm ci` checks the lock's hashes.
mkdir -p .state/node
cp tests/llm/clients/package.json tests/llm/clients/package-lock.json .state/node/
PATH="$PWD/.venv/bin:$PATH" npm ci --prefix .state/node --ignore-scripts --no-audit --no-fund --silent ||
  echo "npm could not install OpenAI's Node client: its tests will fail" >&2
