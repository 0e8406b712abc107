#!/usr/bin/env bash
# Asks the LLM service with grpcurl: what it offers, a whole answer, then one piece by piece.
set -euo pipefail
target="${PARLEY_GRPC:-localhost:50051}"
key="${PARLEY_KEY:-none}" # The caller's key; anything while no callers are configured.

ask() {
  grpcurl -plaintext -H "authorization: Bearer $key" -d "$2" "$target" "parley.llm.v1.LLMService/$1"
}

grpcurl -plaintext "$target" describe parley.llm.v1.LLMService
ask CreateChatCompletion '{"params": {"messages": [{"role": "user", "content": "Hello!"}]}}'
ask StreamChatCompletion '{"params": {"messages": [{"role": "user", "content": "Show me markdown"}]}}'
