#!/usr/bin/env bash
# The long runs: they look for what only shows after a while or under load. Each writes a dated result.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python benchmarks/llm_streams.py
