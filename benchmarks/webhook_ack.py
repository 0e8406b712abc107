"""How long a platform waits for its acknowledgement while the model is slow.

Real processes (gateway, llm, formatter), a model that takes 3 s for each answer, real signatures and encryption.
Pushes come at a steady rate, each on a connection of its own, as the platforms send them. The message is durable
(committed with synchronous=FULL) before each acknowledgement. The peer in the same run is a bare FastAPI app that
acknowledges without storing anything: the least that any Python webhook costs. Bounded: loopback only, about 40 s.

Run from the checkout: .venv/bin/python benchmarks/webhook_ack.py
"""

import asyncio
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastapi import FastAPI, Request, Response
from parley_gateway.simulators.feishu.cloud import CloudLimits, FeishuCloud
from parley_gateway.simulators.feishu.events import message_event, text_content
from parley_gateway.simulators.feishu.pusher import encrypted_body, signature_headers
from parley_gateway.simulators.server import running
from parley_gateway.simulators.wechat import messages
from parley_gateway.simulators.wechat.webhook import push

from tests.e2e.stack import FEISHU_ENCRYPT_KEY, FEISHU_VERIFICATION, Stack, start_stack
from tests.fakes.openai_upstream import stream, words

RESULTS = Path(__file__).resolve().parent / "results"
PER_SECOND = 20
SECONDS = 10
MODEL_S = 3.0

Send = Callable[[int], Coroutine[Any, Any, float]]


async def main() -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        async with start_stack(Path(folder)) as stack, running(peer_app()) as peer:
            stack.upstream.replies = [stream(MODEL_S, *words("an answer"))]
            stack.feishu.limits = CloudLimits(messages_per_chat=1000, calls_per_api=100_000)
            rows = {
                "bare FastAPI, stores nothing": await measure(wechat_sender(stack, f"{peer}/hook")),
                "gateway, WeChat push, safe mode": await measure(wechat_sender(stack, stack.url("wechat"))),
                "gateway, Feishu, encrypted and signed": await measure(feishu_sender(stack, stack.url("feishu"))),
            }
    text = report(rows)
    print(text)
    name = f"{datetime.now(UTC):%Y-%m-%d}-webhook-ack.md"
    (RESULTS / name).write_text(text, encoding="utf-8")


def peer_app() -> FastAPI:
    """Return the peer: reads the body and says success."""
    app = FastAPI()

    async def hook(request: Request) -> Response:
        await request.body()
        return Response("success", media_type="text/plain")

    app.add_api_route("/hook", hook, methods=["POST"], response_model=None)
    return app


async def measure(send: Send) -> list[float]:
    """Send at a steady rate; return the milliseconds each acknowledgement took."""
    await asyncio.gather(*(send(-number) for number in range(1, 6)))
    began = time.monotonic()
    tasks: list[asyncio.Task[float]] = []
    for number in range(PER_SECOND * SECONDS):
        await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
        tasks.append(asyncio.create_task(send(number)))
    took = await asyncio.gather(*tasks)
    return sorted(seconds * 1000 for seconds in took)


def wechat_sender(stack: Stack, url: str) -> Send:
    """Return a function that pushes one WeChat text message of a user of its own."""
    webhook = stack.wechat_pusher().webhook

    async def send(number: int) -> float:
        fields = messages.text(webhook.account_id, f"user-{number}", "hello", at=time.time())
        request = push(webhook, fields, at=time.time())
        return await post(url, request.body, {"content-type": "text/xml"}, dict(request.query))

    return send


def feishu_sender(stack: Stack, url: str) -> Send:
    """Return a function that pushes one Feishu text message of a chat of its own."""
    cloud: FeishuCloud = stack.feishu

    async def send(number: int) -> float:
        message = cloud.user_says(text_content("hello"), chat_id=f"oc_{number}", sender=f"ou_{number}")
        body = encrypted_body(message_event(cloud.app, FEISHU_VERIFICATION, message), FEISHU_ENCRYPT_KEY)
        headers = signature_headers(body, FEISHU_ENCRYPT_KEY, timestamp=str(int(time.time())))
        return await post(url, body, {"content-type": "application/json", **headers}, {})

    return send


async def post(url: str, body: bytes, headers: dict[str, str], query: dict[str, str]) -> float:
    """Post on a new connection, with as little client code as possible; return the seconds until the answer."""
    parts = urlsplit(url)
    target = parts.path + (f"?{urlencode(query)}" if query else "")
    lines = [f"POST {target} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}", "connection: close"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items())])
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(head.encode() + b"\r\n\r\n" + body)
    status = await reader.readline()
    took = time.monotonic() - began
    await reader.read()
    writer.close()
    if b" 200 " not in status:
        raise RuntimeError(f"{url} answered {status!r}")
    return took


def report(rows: dict[str, list[float]]) -> str:
    """Return the result as Markdown."""
    base = statistics.median(next(iter(rows.values())))
    lines = [
        f"# Acknowledging webhooks, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"`benchmarks/webhook_ack.py`: {PER_SECOND} pushes a second for {SECONDS} s, a new connection each (set-up",
        f"included), a model that takes {MODEL_S:g} s. Python {platform.python_version()}, 2 shared cores also run",
        "the load, the simulators, the model and the other two services: the ratios say more than the milliseconds.",
        "",
        "| | p50 ms | p99 ms | max ms | p50 ÷ bare |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, took in rows.items():
        p50, p99 = statistics.median(took), took[int(len(took) * 0.99) - 1]
        lines.append(f"| {name} | {p50:.1f} | {p99:.1f} | {took[-1]:.1f} | {p50 / base:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    asyncio.run(main())
