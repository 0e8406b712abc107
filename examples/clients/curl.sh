#!/usr/bin/env bash
# Asks the LLM service with curl: a whole answer, then one piece by piece.
set -euo pipefail
url="${PARLEY_URL:-http://localhost:8081/v1}"
key="${PARLEY_KEY:-none}" # The caller's key; anything while no callers are configured.

ask() {
  curl --silent --show-error --fail-with-body --no-buffer "$url/chat/completions" \
    -H "authorization: Bearer $key" -H 'content-type: application/json' -d "$1"
}

ask '{"messages": [{"role": "user", "content": "Hello!"}]}'
echo
# The last event is [DONE], or an object with the member "error" when the answer broke off.
ask '{"stream": true, "messages": [{"role": "user", "content": "Show me markdown"}]}'
