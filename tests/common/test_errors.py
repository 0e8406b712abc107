"""Errors on the wire: what a client reads is what the service said, within 1 KiB, whatever was said."""

import math

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st
from parley_common.errors import (
    DETAILS_KEY,
    MAX_DETAILS,
    MAX_MESSAGE,
    MAX_RETRY_AFTER_S,
    RemoteError,
    ServiceError,
    clip,
    error_from_rpc,
    status_details,
)

from tests.common.echo import METHODS, FullError, World, responses_of


class GoneError(ServiceError):
    """An error that no later try mends."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "GONE"


async def _fail_with(world: World, error: ServiceError, kind: str = "unary_unary") -> RemoteError:
    world.echo.error = error
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await responses_of(world.call(kind, b"error"), kind)
    return error_from_rpc(caught.value)


@pytest.mark.parametrize("kind", list(METHODS))
async def test_a_client_reads_what_the_service_said(world: World, kind: str) -> None:
    remote = await _fail_with(world, FullError("too much", retry_after_s=1.5, metadata={"limit": "3"}), kind)

    assert remote == RemoteError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "FULL",
        "too much",
        retryable=True,
        retry_after_s=1.5,
        metadata={"limit": "3"},
    )


async def test_no_retry_info_means_not_retryable(world: World) -> None:
    remote = await _fail_with(world, GoneError("no such thing"))

    assert (remote.code, remote.reason) == (grpc.StatusCode.NOT_FOUND, "GONE")
    assert (remote.retryable, remote.retry_after_s) == (False, None)


async def test_a_wait_of_its_own_makes_an_error_retryable(world: World) -> None:
    remote = await _fail_with(world, GoneError("not yet", retry_after_s=0.25))

    assert (remote.retryable, remote.retry_after_s) == (True, 0.25)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (None, None),
        (0.0, 0.0),
        (-3.0, 0.0),
        (1e30, MAX_RETRY_AFTER_S),
        (math.inf, MAX_RETRY_AFTER_S),
        (math.nan, None),
    ],
)
async def test_any_number_of_seconds_survives(world: World, asked: float | None, told: float | None) -> None:
    remote = await _fail_with(world, FullError("busy", retry_after_s=asked))

    assert (remote.retryable, remote.retry_after_s) == (True, told)


@pytest.mark.parametrize("text", ["x" * 20_000, "汉" * 20_000, "\x00\n\r\x7f" * 5_000, "\ud800" * 20_000])
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_hostile_text_can_not_destroy_a_status(world: World, kind: str, text: str) -> None:
    error = FullError(text, retry_after_s=2.0, metadata={f"{text[:100]}{number}": text for number in range(50)})

    remote = await _fail_with(world, error, kind)

    assert (remote.code, remote.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "FULL")
    assert (remote.retryable, remote.retry_after_s) == (True, 2.0)
    assert 0 < len(remote.message.encode()) <= MAX_MESSAGE
    assert len(status_details(error, "test.parley")) <= MAX_DETAILS


@given(
    message=st.text(alphabet=st.characters(exclude_categories=())),
    metadata=st.dictionaries(st.text(alphabet=st.characters(exclude_categories=()), max_size=200), st.text()),
    repeat=st.integers(1, 2000),
)
def test_details_never_exceed_their_limit(message: str, metadata: dict[str, str], repeat: int) -> None:
    error = FullError(message * repeat, metadata={key: value * repeat for key, value in metadata.items()})

    raw = status_details(error, "test.parley")

    assert len(raw) <= MAX_DETAILS
    assert len(status_pb2.Status.FromString(raw).details) == 2


@pytest.mark.parametrize(
    ("text", "limit", "expected"), [("abc", 2, "ab"), ("汉字", 5, "汉"), ("", 3, ""), ("a\ud800b", 3, "a?b")]
)
def test_clip_cuts_between_characters(text: str, limit: int, expected: str) -> None:
    assert clip(text, limit) == expected


async def test_an_error_that_no_service_sent_has_no_reason(world: World) -> None:
    await world.server.stop(0)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.call("unary_unary", b"hello")

    remote = error_from_rpc(caught.value)
    assert (remote.code, remote.reason) == (grpc.StatusCode.UNAVAILABLE, "")
    assert (remote.retryable, remote.metadata) == (False, {})


@pytest.mark.parametrize("details", [b"\xff\xff not a status", b""])
def test_details_that_cannot_be_read_count_as_none(details: bytes) -> None:
    empty = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, empty, grpc.aio.Metadata((DETAILS_KEY, details)), details="broken"
    )

    assert error_from_rpc(error) == RemoteError(grpc.StatusCode.INTERNAL, "", "broken", retryable=False)
