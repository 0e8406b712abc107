#!/usr/bin/env bash
# Runs every benchmark but the soak (`make soak`); each writes a dated result into benchmarks/results. Other proxies are
# measured where they are installed: `benchmarks/llm_proxy.py --install-peers` installs them into .state/peers.
set -euo pipefail
cd "$(dirname "$0")/.."
for script in benchmarks/*.py; do
  [ "$script" = benchmarks/llm_streams.py ] && continue
  echo "== $script"
  .venv/bin/python "$script"
done
