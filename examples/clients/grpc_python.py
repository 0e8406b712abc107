"""Asks the LLM service by gRPC with the generated client: a whole answer, then one piece by piece.

pip install ./protos; python grpc_python.py
"""

import os
import sys

import grpc
from parley.llm.v1 import chat_pb2, llm_service_pb2, llm_service_pb2_grpc

target = os.environ.get("PARLEY_GRPC", "localhost:50051")
key = os.environ.get("PARLEY_KEY", "none")  # The caller's key; anything while no callers are configured.


def question(text: str) -> chat_pb2.ChatCompletionParams:
    """Return what to ask."""
    return chat_pb2.ChatCompletionParams(messages=[chat_pb2.ChatMessage(role="user", content=text)])


channel = grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)])
stub = llm_service_pb2_grpc.LLMServiceStub(channel)
metadata = [("authorization", f"Bearer {key}")]
try:
    asked = llm_service_pb2.CreateChatCompletionRequest(params=question("Hello!"))
    answer = stub.CreateChatCompletion(asked, timeout=60, metadata=metadata)
    print(answer.completion.choices[0].message.content)

    streamed = llm_service_pb2.StreamChatCompletionRequest(params=question("Show me markdown"))
    for response in stub.StreamChatCompletion(streamed, timeout=60, metadata=metadata):
        event = response.event
        if event.WhichOneof("event") == "delta":
            print(event.delta.content, end="", flush=True)
        elif event.WhichOneof("event") == "usage":
            print(f"\n({event.usage.total_tokens} tokens)")
except grpc.RpcError as error:  # Also when a stream breaks midway: it never just ends.
    sys.exit(f"{error.code().name}: {error.details()}")
