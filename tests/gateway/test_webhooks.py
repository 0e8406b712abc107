"""The webhooks' order: nothing is acknowledged before it is stored, and every refusal is counted."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from parley_gateway.errors import MalformedRequestError, SignatureError, StaleRequestError, StoreUnavailableError
from parley_gateway.messages import InboundMessage
from parley_gateway.platforms.base import Challenge, Farewell, Ignored, Messages, Query, RawResponse, Recall
from parley_gateway.store.base import Receipt
from parley_gateway.webhooks import Webhooks, create_app

from tests.fakes.gateway_parts import question
from tests.gateway.conftest import Gateway

URL = "http://gateway/webhooks/fake/default"


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    webhooks = Webhooks(gateway.bots, gateway.admission, gateway.clicks, gateway.metrics, gateway.tracer, gateway.clock)
    transport = httpx2.ASGITransport(app=create_app(webhooks, max_body_bytes=1000))
    async with httpx2.AsyncClient(transport=transport) as client:
        yield client


def take(gateway: Gateway, *messages: InboundMessage) -> list[Receipt]:
    """Let the platform return these messages; the list fills with the receipts it acknowledges."""
    receipts: list[Receipt] = []

    async def respond(receipt: Receipt) -> RawResponse:
        receipts.append(receipt)
        return RawResponse(200, f"stored {receipt.outcome}".encode())

    gateway.platform.handled = Messages(messages, "text", respond, refused=RawResponse(200, b"refused"))
    return receipts


def events(gateway: Gateway, event: str, outcome: str) -> float:
    return gateway.metric("parley_gateway_events_total", platform="fake", event=event, outcome=outcome)


async def test_message_is_stored_then_acknowledged(gateway: Gateway, client: httpx2.AsyncClient) -> None:
    receipts = take(gateway, question())
    assert (await client.post(URL, content=b"x")).text == "stored accepted"
    assert (await client.post(URL, content=b"x")).text == "stored duplicate"
    assert [receipt.delivery for receipt in receipts] == [1, 2]
    assert (await gateway.store.stats(now=gateway.clock())).depth == 1
    assert events(gateway, "text", "accepted") == 1
    assert events(gateway, "text", "duplicate") == 1


async def test_redelivery_links_to_the_first_delivery(gateway: Gateway, client: httpx2.AsyncClient) -> None:
    take(gateway, question())
    await client.post(URL, content=b"x")
    await client.post(URL, content=b"x")
    first, second = (span for span in gateway.spans.get_finished_spans() if span.name == "send inbound")
    assert first.context.trace_id != second.context.trace_id
    assert [link.context.trace_id for link in second.links] == [first.context.trace_id]


async def test_nothing_is_acknowledged_while_the_store_is_down(gateway: Gateway, client: httpx2.AsyncClient) -> None:
    receipts = take(gateway, question())

    async def down(*_args: object, **_keywords: object) -> Receipt:
        raise StoreUnavailableError("disk full")

    gateway.store.accept = down  # type: ignore[method-assign]
    answer = await client.post(URL, content=b"x")
    assert (answer.status_code, answer.text) == (503, "later")
    assert receipts == []
    assert events(gateway, "other", "unavailable") == 1


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (SignatureError("the signature is wrong"), 403, "rejected_signature"),
        (StaleRequestError("too old"), 403, "rejected_stale"),
        (MalformedRequestError("not XML"), 400, "rejected_malformed"),
    ],
)
async def test_refused_request_is_counted_and_explained(
    gateway: Gateway, client: httpx2.AsyncClient, error: SignatureError, status: int, outcome: str
) -> None:
    gateway.platform.handled = error
    answer = await client.post(URL, content=b"x")
    assert (answer.status_code, answer.text) == (status, f"{error}\n")
    assert events(gateway, "other", outcome) == 1
    assert (await gateway.store.stats(now=gateway.clock())).depth == 0


async def test_oversized_body_is_refused_unread(gateway: Gateway, client: httpx2.AsyncClient) -> None:
    receipts = take(gateway, question())
    assert (await client.post(URL, content=b"x" * 1001)).status_code == 413
    assert receipts == []


async def test_unknown_bot_is_not_found(client: httpx2.AsyncClient) -> None:
    assert (await client.post("http://gateway/webhooks/fake/other", content=b"x")).status_code == 404
    assert (await client.post("http://gateway/webhooks/other/default", content=b"x")).status_code == 404


async def test_sender_who_is_not_allowed_is_acknowledged_and_not_stored(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    take(gateway, question())
    gateway.set_bot(allow={"users": ["somebody-else"]}, refusal="silence")
    assert (await client.post(URL, content=b"x")).text == "refused"
    assert (await gateway.store.stats(now=gateway.clock())).depth == 0
    assert events(gateway, "text", "refused_user") == 1


async def test_challenge_query_and_ignored_are_answered_without_the_queue(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    async def welcome() -> RawResponse:
        return RawResponse(200, b"welcome")

    gateway.platform.handled = Challenge(RawResponse(200, b"echo"))
    assert (await client.get(URL)).text == "echo"
    gateway.platform.handled = Query("subscribe", welcome)
    assert (await client.post(URL)).text == "welcome"
    gateway.platform.handled = Ignored("something new", RawResponse(200, b"success"))
    assert (await client.post(URL)).text == "success"
    assert events(gateway, "verify", "accepted") == 1
    assert events(gateway, "subscribe", "accepted") == 1
    # A label never carries what a platform sent.
    assert events(gateway, "other", "unsupported") == 1


async def test_recall_and_farewell_are_acknowledged_only_when_they_are_stored(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    conversation = question().conversation
    for handled, event in (
        (Recall(conversation, "m1", RawResponse(200, b"recalled")), "recall"),
        (Farewell(conversation, gateway.clock(), RawResponse(200, b"bye")), "unsubscribe"),
    ):
        gateway.platform.handled = handled
        assert (await client.post(URL)).text == handled.response.body.decode()
        assert events(gateway, event, "accepted") == 1

    async def down(*_args: object, **_keywords: object) -> int:
        raise StoreUnavailableError("disk full")

    gateway.store.erase = down  # type: ignore[method-assign]
    assert (await client.post(URL)).status_code == 503


async def test_query_string_never_enters_the_trace(gateway: Gateway, client: httpx2.AsyncClient) -> None:
    await client.get(URL + "?signature=abc123&openid=user1")
    (span,) = gateway.spans.get_finished_spans()
    assert "abc123" not in span.to_json()
    assert "user1" not in span.to_json()
