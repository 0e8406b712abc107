#!/usr/bin/env bash
# Generates the Python stubs from protos/ with a pinned, old grpcio-tools: stubs demand a runtime at least as new
# as their generator, and other teams embed them. Its own environment, since it needs an older protobuf.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.state/proto-venv
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import grpc_tools' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --require-hashes -r requirements/proto.txt
fi
out="${1:-protos/gen}"
rm -rf "$out" && mkdir -p "$out"
"$venv/bin/python" -m grpc_tools.protoc -I protos --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
  $(cd protos && find parley -name '*.proto' | sort)
