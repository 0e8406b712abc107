"""The processes that the benchmark of the LLM service runs beside it: the upstream, the peers, a trace collector.

python benchmarks/peers/llm_proxy.py {upstream,collector,bare,relay,naive} PORT [PORT OF THE UPSTREAM]
"""

import asyncio
import json
import sys
from typing import Any

import uvloop
from parley_llm.upstream.pool import Address, Pool
from parley_llm.upstream.transport import HTTPTransport, Outgoing, after

CHUNKS = 50
CHUNK_PAUSE_S = 0.02
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": "fp"}


# The upstream: answers from memory as fast as Python can.


class Upstream(asyncio.Protocol):
    """Answers each request with a prepared completion, or with a paced stream."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0) if end else 0
        if not end or len(body) < length:
            return
        self.data = b""
        if b'"stream":true' in body.replace(b" ", b""):
            asyncio.get_running_loop().create_task(self.stream())
        else:
            self.transport.write(self.answer)

    async def stream(self) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self.transport.write(head)
        for number in range(CHUNKS):
            finish = "stop" if number == CHUNKS - 1 else None
            choice = {"index": 0, "delta": {"content": f"word{number} "}, "logprobs": None, "finish_reason": finish}
            self.event(json.dumps({**CHUNK, "choices": [choice]}).encode())
            await asyncio.sleep(CHUNK_PAUSE_S)
        self.event(b"[DONE]")
        self.transport.write(b"0\r\n\r\n")

    def event(self, data: bytes) -> None:
        event = b"data: %b\n\n" % data
        self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))


async def serve_upstream(port: int) -> None:
    message = {"role": "assistant", "content": "word " * 160}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": 160, "total_tokens": 210}
    completion = {**CHUNK, "object": "chat.completion", "choices": [choice], "usage": usage}
    body = json.dumps(completion).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    Upstream.answer = head + body
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


async def serve_collector(port: int) -> None:
    """Take traces by OTLP and forget them."""
    import grpc.aio
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol's name
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


# The naive proxy: what one writes in ten minutes.


def serve_naive(port: int, upstream: int) -> None:
    import openai
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from pydantic import BaseModel

    app = FastAPI()
    client = openai.AsyncOpenAI(api_key="k", base_url=f"http://127.0.0.1:{upstream}/v1")

    class ChatRequest(BaseModel):
        model: str
        messages: list[dict[str, Any]]
        stream: bool = False

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> Any:
        answer: Any = await client.chat.completions.create(**request.model_dump())
        if not request.stream:
            return answer

        async def events() -> Any:
            async for chunk in answer:
                yield f"data: {chunk.model_dump_json()}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    uvicorn.run(app, port=port, log_level="error", loop="uvloop", http="httptools")


# The lower bounds.


def serve_bound(kind: str, port: int, upstream: int) -> None:
    """Serve `bare` or `relay`, ASGI applications that do nothing, or next to nothing."""
    import uvicorn

    transport = HTTPTransport(Pool(Address("127.0.0.1", upstream), 1000))
    headers = b"host: localhost\r\ncontent-type: application/json\r\n"
    body = b" " * 1100

    async def bare(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1100")]})
        await send({"type": "http.response.body", "body": body})

    async def relay(scope: Any, receive: Any, send: Any) -> None:
        outgoing = Outgoing("POST", scope["path"], headers, (await receive())["body"])
        response = await transport.send(outgoing, after(10), after(30))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while data := await response.next(after(30)):
            await send({"type": "http.response.body", "body": data, "more_body": True})
        response.close()
        await send({"type": "http.response.body", "body": b""})

    app = bare if kind == "bare" else relay
    uvicorn.run(app, port=port, log_level="error", access_log=False, lifespan="off", loop="uvloop", http="httptools")


def main() -> None:
    """Run one of them."""
    kind, *ports = sys.argv[1:]
    numbers = [int(port) for port in ports]
    if kind == "upstream":
        uvloop.run(serve_upstream(*numbers))
    elif kind == "collector":
        asyncio.run(serve_collector(*numbers))
    elif kind == "naive":
        serve_naive(*numbers)
    else:
        serve_bound(kind, *numbers)


if __name__ == "__main__":
    main()
