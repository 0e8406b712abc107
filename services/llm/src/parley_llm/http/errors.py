"""Errors in OpenAI's format: `{"error": {"message", "type", "param", "code"}}`, in an answer or inside a stream."""

import math

from parley_llm.errors import LLMError
from parley_llm.jsontext import dump, join_object, parse_object


def error_body(error: LLMError, request_id: str) -> bytes:
    """Return the JSON of an error; `code` is the stable reason in lower case."""
    inner = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.metadata.get("upstream_code") or error.reason.lower(),
        "reason": error.reason,
        "request_id": request_id,
    }
    upstream_request_id = error.metadata.get("upstream_request_id")
    if upstream_request_id:
        inner["upstream_request_id"] = upstream_request_id
    return dump({"error": inner}).encode()


def named_error(body: bytes, error: LLMError, sequence: int) -> bytes:
    """Return the event that ends a stream of named events; `body` is the JSON of the error.

    It is the Responses API's `error` event, with the member `error` besides, which makes OpenAI's clients raise;
    `sequence` is the number of the event before it.
    """
    members = {
        "type": '"error"',
        "code": dump(error.reason.lower()),
        "message": dump(error.message),
        "param": dump(error.param),
        "sequence_number": dump(sequence + 1),
        "error": parse_object(body).texts["error"],
    }
    return b"event: error\ndata: %b\n\n" % join_object(members).encode()


def error_headers(error: LLMError) -> bytes:
    """Return the header lines that tell clients whether and when to come again.

    OpenAI's clients obey `x-should-retry` and `retry-after-ms`.
    """
    lines = b""
    if error.retry_after_s is not None:
        milliseconds = math.ceil(error.retry_after_s * 1000)
        lines += b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (math.ceil(error.retry_after_s), milliseconds)
    if not error.retryable:
        lines += b"x-should-retry: false\r\n"
    return lines
