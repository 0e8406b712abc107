#!/usr/bin/env bash
# Fails when the committed stubs differ from what protos/ generates.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh="$(mktemp -d)"
trap 'rm -rf "$fresh"' EXIT
scripts/proto.sh "$fresh/gen"
diff -ru --exclude=__pycache__ protos/gen "$fresh/gen" || { echo "The stubs are stale: run 'make proto' and commit." >&2; exit 1; }
