#!/usr/bin/env bash
# Fails on a Python module of more than 600 lines: by then it is two things. Generated code is exempt.
set -euo pipefail
cd "$(dirname "$0")/.."
long="$(git ls-files -co --exclude-standard '*.py' ':!protos/gen' | xargs wc -l | awk '$2 != "total" && $1 > 600')"
[ -z "$long" ] || { echo "Modules over 600 lines:" >&2; echo "$long" >&2; exit 1; }
