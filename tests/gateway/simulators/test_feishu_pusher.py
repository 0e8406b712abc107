"""How the simulator delivers: encrypted, signed, cut, and again."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from parley_gateway.simulators.feishu.cloud import FeishuCloud, SimulatedApp
from parley_gateway.simulators.feishu.events import Mentioned, event, message_event, text_content
from parley_gateway.simulators.feishu.pusher import FeishuPusher, Step, Timings, Webhook
from parley_gateway.simulators.server import running
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KEY, TOKEN = "encrypt-key", "verification-token"
FAST = Timings(ack_s=2.0, check_s=2.0, retry_after_s=(0.01, 0.01, 0.01, 0.01))


class Endpoint:
    """A webhook that keeps what it gets and answers by a script; at its end, `{}` with status 200."""

    def __init__(self) -> None:
        self.got: list[tuple[list[tuple[bytes, bytes]], bytes]] = []
        self.script: list[int | float | bytes | Callable[[bytes], bytes]] = []

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        self.got.append((request.headers.raw, body))
        step = self.script.pop(0) if self.script else b"{}"
        if isinstance(step, float):
            await asyncio.sleep(step)
            return Response(b"{}")
        if isinstance(step, int):
            return Response(status_code=step, headers={"location": "/elsewhere"})
        return Response(step(body) if callable(step) else step)

    def events(self) -> list[dict[str, Any]]:
        """Return what was delivered, decrypted."""
        return [opened(body) for _, body in self.got]


def opened(body: bytes) -> dict[str, Any]:
    blob = base64.b64decode(json.loads(body)["encrypt"])
    key = hashlib.sha256(KEY.encode()).digest()
    decryptor = Cipher(algorithms.AES(key), modes.CBC(blob[:16])).decryptor()
    plain = decryptor.update(blob[16:]) + decryptor.finalize()
    found: dict[str, Any] = json.loads(plain[: -plain[-1]])
    return found


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def pusher(endpoint: Endpoint) -> AsyncIterator[FeishuPusher]:
    async with running(Starlette(routes=[Route("/hook", endpoint.__call__, methods=["POST"])])) as base_url:
        built = FeishuPusher(Webhook(f"{base_url}/hook", KEY, TOKEN), timings=FAST, clock=lambda: 1_700_000_000.0)
        yield built
        await built.aclose()


def hello(**options: Any) -> dict[str, Any]:
    cloud = FeishuCloud()
    said = cloud.user_says(text_content("hello"), chat_id="oc_1", sender="ou_1", thread_id=options.pop("thread", ""))
    return message_event(cloud.app, TOKEN, said, **options)


async def test_event_is_encrypted_and_signed(pusher: FeishuPusher, endpoint: Endpoint) -> None:
    sent = hello()
    delivery = await pusher.push(sent)
    assert delivery.acknowledged
    assert endpoint.events() == [sent]
    ((raw, body),) = endpoint.got
    headers = {name.decode().lower(): value.decode() for name, value in raw}
    material = headers["x-lark-request-timestamp"] + headers["x-lark-request-nonce"] + KEY
    assert headers["x-lark-signature"] == hashlib.sha256(material.encode() + body).hexdigest()
    assert headers["x-lark-request-timestamp"] == "1700000000"


async def test_not_acknowledged_means_again_four_times(pusher: FeishuPusher, endpoint: Endpoint) -> None:
    endpoint.script = [500, 302, 403, 503, 503]
    seen: list[Step] = []
    delivery = await pusher.push(hello(), on_step=seen.append)
    assert [step.status for step in delivery.steps] == [500, 302, 403, 503, 503]
    assert not delivery.acknowledged
    assert tuple(seen) == delivery.steps
    assert len({json.dumps(each) for each in endpoint.events()}) == 1
    assert len({body for _, body in endpoint.got}) == 5  # Each try is encrypted anew.


async def test_waits_between_tries_are_feishus(endpoint: Endpoint) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    pusher = FeishuPusher(Webhook("http://127.0.0.1:9/", KEY, TOKEN), sleep=sleep)
    delivery = await pusher.push(hello())
    assert waits == [15, 300, 3600, 21600]
    assert all(step.status is None and "is the gateway running" in step.problem for step in delivery.steps)
    await pusher.aclose()


async def test_slow_answer_is_cut_and_delivered_again(pusher: FeishuPusher, endpoint: Endpoint) -> None:
    endpoint.script = [1.0]
    impatient = FeishuPusher(pusher.webhook, timings=replace(FAST, ack_s=0.2))
    first, *later = (await impatient.push(hello())).steps
    await impatient.aclose()
    assert (first.status, first.problem) == (None, "no answer within 0.2 s")
    assert later


async def test_repeat_may_have_a_new_event_id_but_keeps_the_message_id(
    pusher: FeishuPusher, endpoint: Endpoint
) -> None:
    endpoint.script = [503, 503]
    await pusher.push(hello(), new_event_ids=True)
    events = endpoint.events()
    assert len({each["header"]["event_id"] for each in events}) == 3
    assert len({each["event"]["message"]["message_id"] for each in events}) == 1


def test_scaled_timings_keep_the_time_to_acknowledge() -> None:
    assert Timings().scaled(0.001) == Timings(retry_after_s=(0.015, 0.3, 3.6, 21.6))


@pytest.mark.parametrize("signed", [True, False])
async def test_check_of_the_url(pusher: FeishuPusher, endpoint: Endpoint, signed: bool) -> None:
    endpoint.script = [lambda body: json.dumps({"challenge": opened(body)["challenge"]}).encode()]
    step = await pusher.check_url(signed=signed)
    assert step.acknowledged
    assert endpoint.events()[0]["token"] == TOKEN
    assert any(name.lower() == b"x-lark-signature" for name, _ in endpoint.got[0][0]) is signed


@pytest.mark.parametrize("answer", [b"{}", b"ok", b'{"challenge": "other"}', b"[]"])
async def test_check_of_the_url_needs_the_challenge(pusher: FeishuPusher, endpoint: Endpoint, answer: bytes) -> None:
    endpoint.script = [answer]
    assert not (await pusher.check_url()).acknowledged


def test_group_message_names_who_is_mentioned() -> None:
    described = hello(group=True, mentions=[Mentioned("ou_bot", "Parley"), Mentioned("ou_2", "Li")], thread="omt_1")
    message = described["event"]["message"]
    assert (message["chat_type"], message["thread_id"]) == ("group", "omt_1")
    assert [each["key"] for each in message["mentions"]] == ["@_user_1", "@_user_2"]


def test_foreign_sender_has_another_tenant() -> None:
    described = hello(sender_tenant="t2")
    assert described["event"]["sender"]["tenant_key"] == "t2" != described["header"]["tenant_key"]


def test_any_event_can_be_made() -> None:
    made = event(SimulatedApp(), TOKEN, "im.message.recalled_v1", {"message_id": "om_1"})
    assert (made["schema"], made["header"]["event_type"]) == ("2.0", "im.message.recalled_v1")
    assert made["event"] == {"message_id": "om_1"}


def test_secrets_are_not_shown() -> None:
    assert KEY not in repr(Webhook("http://x", KEY, TOKEN))
    assert TOKEN not in repr(Webhook("http://x", KEY, TOKEN))
    assert "simulator-app-secret" not in repr(SimulatedApp())
