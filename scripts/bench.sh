#!/usr/bin/env bash
# Runs every benchmark; each writes a dated result into benchmarks/results.
set -euo pipefail
cd "$(dirname "$0")/.."
for script in benchmarks/*.py; do
  echo "== $script"
  .venv/bin/python "$script"
done
