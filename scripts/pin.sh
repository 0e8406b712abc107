#!/usr/bin/env bash
# Pins what the services, the tests and the stub generator need, with hashes and without any index host, into
# requirements/*.txt. Run after editing a requirements/*.in; name files to pin only those.
set -euo pipefail
cd "$(dirname "$0")/../requirements"
venv=../.state/pin-venv
if [ ! -x "$venv/bin/uv" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet uv
fi
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(gateway llm formatter proto dev)
for name in "${names[@]}"; do
  "$venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-header --output-file "$name.txt" "$name.in"
done
