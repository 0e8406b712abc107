"""Each way in which an upstream fails or a stream ends: what callers of each front see, and when the upstream is asked.

One row of the table is one story. The times between the requests that reach the upstream are checked too: no sooner
than it asked for, no later than the back-off allows, and at once where another target can be asked.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings

from tests.fakes.openai_upstream import (
    DONE,
    FINISH,
    ROLE,
    USAGE_CHUNK,
    OpenAIUpstream,
    Peer,
    Reply,
    completion,
    cut,
    delta,
    event,
    plain,
    raw,
    stall,
    status,
    stream,
    words,
)
from tests.llm.conftest import Running, settings_for
from tests.llm.fronts import ALL_FRONTS, PLAIN_FRONTS, STREAM_FRONTS, Seen, ask

BACKOFF_MAX_S = 0.1
SLACK_S = 1.0  # What a busy machine may add to a time that is a few milliseconds by itself.
SOON = (0.0, BACKOFF_MAX_S + SLACK_S)

GOOD_STREAM = stream(*words("Hel", "lo!"))
FIVE = [ROLE, *(delta(one) for one in "Hello")]
Script = Sequence[Reply]


@dataclass(frozen=True)
class Row:
    """One story: the upstream's replies, what comes of them, and the bounds of the seconds between its requests."""

    name: str
    replies: Script | Callable[[str], Script] = field(repr=False)
    """The replies in order, the last one again and again; or what returns them for a front."""
    attempts: int
    gaps: tuple[tuple[float, float], ...] = ()
    fronts: Sequence[str] = tuple(ALL_FRONTS)
    text: str = "Hello!"
    error: tuple[str, str, str] | None = None
    """HTTP status (`in-band`: inside the stream), gRPC code and reason; None when the call succeeds."""
    says: str = ""
    retry_after_s: float | None = None
    model: dict[str, Any] = field(default_factory=dict, repr=False)
    second: bool = False
    """Whether there is another target, which answers well."""
    within_s: float = 5.0
    left: bool = False
    """Whether the upstream still had something to say when its socket was closed."""

    def script(self, front: str) -> list[Reply]:
        """Return the replies for a front."""
        return list(self.replies(front) if callable(self.replies) else self.replies)


def good(front: str) -> Reply:
    """Answer well, in the form that the front makes the service ask for."""
    return GOOD_STREAM if front in STREAM_FRONTS else completion("Hello!")


def after(*replies: Reply) -> Callable[[str], Script]:
    """Return a script that ends well."""
    return lambda front: [*replies, good(front)]


def broken(reason: str = "STREAM_BROKEN", code: str = "UNAVAILABLE") -> tuple[str, str, str]:
    """Return the error of a stream that has had content."""
    return ("in-band", code, reason)


def body_with(*steps: bytes | str) -> Reply:
    """Begin a whole answer of 500 bytes and go on as a step says: `stall`, or bytes and then the end of the socket."""

    async def reply(peer: Peer) -> None:
        await peer.head(200, {"content-type": "application/json", "content-length": "500"})
        for step in steps:
            if isinstance(step, bytes):
                await peer.send(step)
            elif step == "stall":
                await stall()(peer)
        peer.keep = False

    return reply


HTML = plain(200, b"<html>log in</html>", {"content-type": "text/html"})
FALSE_200 = plain(200, b'{"error":{"message":"not today","code":429}}')
LASTING_200 = plain(200, b'{"error":{"message":"too long","code":"context_length_exceeded"}}')
FLOOD: list[bytes | float | str] = [b"x" * 1_000_000] * 9
QUICK_START = {"timeouts": {"first_token": 0.3, "total": 20}}
QUICK_IDLE = {"timeouts": {"idle": 0.3, "total": 20}}
NO_USAGE = plain(200, b'{"choices":[{"index":0,"message":{"content":"Hello!"},"finish_reason":"stop"}]}')
COMMENTS: list[bytes | float | str] = [b": ping\n\n", 0.02] * 10

ROWS = [
    # What a proxy must get right about failures before an answer.
    Row("503, 503, 200", after(status(503), status(503)), 3, (SOON, SOON)),
    Row(
        "429 with retry-after-ms, then well",
        after(status(429, {"retry-after-ms": "300"})), 2, ((0.3, 0.33 + SLACK_S),),
    ),
    Row(
        "429 with Retry-After in seconds, then well",
        after(status(429, {"retry-after": "1"})), 2, ((1.0, 1.1 + SLACK_S),), ["http"],
    ),
    Row(
        "500 always",
        [status(500, {"x-request-id": "req-up-1"}, message="engine on fire")], 3, (SOON, SOON),
        text="", error=("500", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE"), says="engine on fire",
    ),
    Row(
        "429 with a long Retry-After always",
        [status(429, {"retry-after": "120"})], 1,
        text="", error=("429", "RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED"), retry_after_s=120, within_s=3,
    ),
    Row(
        "400",
        [status(400, message="bad temperature")], 1,
        text="", error=("400", "INVALID_ARGUMENT", "INVALID_REQUEST"), says="bad temperature", within_s=3,
    ),
    Row("reset instead of an answer", after(cut(), raw(b"HTTP/1.1 200 OK\r\ncontent-le")), 3, (SOON, SOON)),
    Row(
        "silence",
        [stall()], 1, text="", error=("504", "DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT"), left=True,
        fronts=STREAM_FRONTS, model=QUICK_START,
    ),
    Row(
        "silence behind comments and a role",
        [stream(b": busy\n\n", ROLE, b"\n\n", "stall")], 1,
        text="", error=("504", "DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT"), left=True,
        fronts=STREAM_FRONTS, model=QUICK_START,
    ),
    # Going on to another target needs no wait, whatever the first one asks for.
    Row("503 at the first of two", [status(503, {"retry-after": "20"})], 2, ((0.0, SLACK_S),), second=True),
    Row("429 at the first of two", [status(429, {"retry-after": "120"})], 2, ((0.0, SLACK_S),), second=True),
    Row("refused key at the first of two", [status(401)], 2, ((0.0, SLACK_S),), second=True),
    Row("reset at the first of two", [cut()], 2, ((0.0, SLACK_S),), second=True),
    Row("wrong content type at the first of two", [HTML], 2, ((0.0, SLACK_S),), second=True),
    Row(
        "silence at the first of two",
        [stall()], 2, ((0.15, 0.3 + SLACK_S),),  # The limit runs from before the request arrived.
        fronts=STREAM_FRONTS, second=True, model=QUICK_START, left=True,
    ),
    # Answers with status 200 that are none.
    Row("wrong content type", [HTML], 1, text="", error=("502", "UNAVAILABLE", "UPSTREAM_PROTOCOL"), says="base_url"),
    Row("200 with an error body that may pass", after(FALSE_200), 2, (SOON,)),
    Row(
        "200 with an error body that lasts",
        [LASTING_200], 1, text="", error=("400", "INVALID_ARGUMENT", "CONTEXT_LENGTH_EXCEEDED"),
    ),
    Row(
        "whole answer that is not JSON",
        [plain(200, b'{"choices":')], 1, fronts=PLAIN_FRONTS,
        text="", error=("502", "UNAVAILABLE", "UPSTREAM_PROTOCOL"),
    ),
    Row("whole answer cut in its body", after(body_with(b'{"choices":[')), 2, (SOON,), PLAIN_FRONTS),
    Row(
        "whole answer that stalls in its body",
        [body_with(b'{"choices":[', "stall")], 1, fronts=PLAIN_FRONTS, model=QUICK_IDLE, left=True,
        text="", error=("504", "DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT"),
    ),
    Row("whole answer without usage", [NO_USAGE], 1, fronts=PLAIN_FRONTS),
    # Streams that end before their first content: nobody has seen anything, so they are repeated.
    Row("503, then well, on a stream", after(status(503)), 2, (SOON,), STREAM_FRONTS),
    *(
        Row(
            f"stream that ends before its content: {ending}",
            after(stream(b": hi\n\n", b"\n\n", ROLE, ending)), 2, (SOON,), STREAM_FRONTS,
        )
        for ending in ("end", "cut", "fin")
    ),
    Row("[DONE] before any content", after(stream(ROLE, DONE)), 2, (SOON,), STREAM_FRONTS),
    Row("malformed event before any content", after(stream(ROLE, b"data: {broken\n\n")), 2, (SOON,), STREAM_FRONTS),
    Row(
        "in-band error before any content",
        after(stream(ROLE, event({"error": {"message": "overloaded", "code": 503}}))), 2, (SOON,), STREAM_FRONTS,
    ),
    # Streams that break later: the error is told, nothing is repeated, no end is made up.
    *(
        Row(
            f"stream that ends after five chunks: {ending}",
            [stream(*FIVE, ending)], 1, fronts=STREAM_FRONTS, text="Hello", error=broken(), says="broke its stream",
        )
        for ending in ("end", "cut", "fin")
    ),
    Row("[DONE] without a finish", [stream(*FIVE, DONE)], 1, fronts=STREAM_FRONTS, text="Hello", error=broken()),
    Row(
        "stall after five chunks",
        [stream(*FIVE, "stall")], 1, fronts=STREAM_FRONTS, model=QUICK_IDLE, left=True,
        text="Hello", error=broken("UPSTREAM_TIMEOUT", "DEADLINE_EXCEEDED"),
    ),
    Row(
        "malformed event after five chunks",
        [stream(*FIVE, b"data: {broken\n\n", FINISH, DONE)], 1, fronts=STREAM_FRONTS, text="Hello", error=broken(),
    ),
    Row(
        "in-band error after five chunks",
        [stream(*FIVE, event({"error": {"message": "out of memory"}}), FINISH, DONE)], 1, fronts=STREAM_FRONTS,
        text="Hello", error=broken(), says="out of memory",
    ),
    Row(
        "huge event after five chunks",
        [stream(*FIVE, b"data: ", *FLOOD, "stall")], 1, fronts=STREAM_FRONTS, text="Hello", error=broken(), left=True,
    ),
    # Ends that are complete, formalities or not.
    *(
        Row(
            f"finish without [DONE]: {ending}",
            [stream(ROLE, delta("Hello!"), FINISH, ending)], 1, fronts=STREAM_FRONTS,
        )
        for ending in ("end", "cut", "fin")
    ),
    Row("finish without usage", [stream(ROLE, delta("Hello!"), FINISH, DONE)], 1, fronts=STREAM_FRONTS),
    Row(
        "keep-alive comments and blank lines",
        [stream(*COMMENTS, ROLE, b"\n\n", *COMMENTS, delta("Hello!"), *COMMENTS, FINISH, USAGE_CHUNK, DONE)], 1,
        fronts=STREAM_FRONTS,
    ),
]  # fmt: skip
STORIES = [pytest.param(row, front, id=f"{row.name} - {front}") for row in ROWS for front in row.fronts]


@contextmanager
def routed(running: Running, settings: dict[str, Any]) -> Iterator[None]:
    """Put settings behind the running service for a while."""
    core = running.service.core
    before, core.routing = core.routing, build_routing(LLMSettings.model_validate(settings), {})
    try:
        yield
    finally:
        core.routing.close()
        core.routing = before


@pytest.mark.parametrize(("row", "front"), STORIES)
async def test_row(row: Row, front: str, shared_service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = row.script(front)
    async with OpenAIUpstream(good(front)) as other:
        upstreams = [upstream, other] if row.second else [upstream]
        retry = {"backoff_initial": BACKOFF_MAX_S, "backoff_max": BACKOFF_MAX_S}
        with routed(shared_service, settings_for(*upstreams, **row.model, retry=retry)):
            begun = time.monotonic()
            seen = await ask(front, shared_service)
            assert time.monotonic() - begun < row.within_s
        check_outcome(row, front, seen)
        if row.left:
            await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        asked = [request.at for request in (*upstream.requests, *other.requests)]
    assert seen.attempts == len(asked) == row.attempts
    waits = [later - sooner for sooner, later in itertools.pairwise(asked)]
    assert len(waits) == len(row.gaps)
    for wait, (least, most) in zip(waits, row.gaps, strict=True):
        assert least <= wait <= most


def check_outcome(row: Row, front: str, seen: Seen) -> None:
    """Compare what the caller saw with the row."""
    assert seen.text == row.text
    assert seen.retry_after_s == row.retry_after_s
    assert row.says in seen.message
    if row.error is None:
        assert (seen.code, seen.finish) == ("", "stop")
        assert seen.done is (front in STREAM_FRONTS)
        return
    http, grpc, reason = row.error
    assert (seen.code, seen.reason) == (http if front in ("http", "sse") else grpc, reason)
    assert not seen.done
    assert not seen.finish, "no end is made up"
    if front == "grpc-stream" and row.text:
        assert seen.raw == reason, "the error event comes before the status"


def test_each_front_has_its_stories() -> None:
    told = {front: {row.name for row in ROWS if front in row.fronts} for front in ALL_FRONTS}
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert told["sse"] == told["grpc-stream"]
    assert told["grpc"] == told["http"] - {"429 with Retry-After in seconds, then well"}
