"""Translates what a Runnable raises into the error answer that an upstream over HTTP would have given.

What a model's vendor said reaches the caller as from any upstream; the words of other exceptions stay here, since they
may hold anything. The log names the exception and where it was raised, not what it says.
"""

import traceback
from collections.abc import Mapping
from typing import Any

import structlog
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelRefusalError,
    ModelTimeoutError,
)

from parley_llm.upstream.langchain.refusals import CutOffError, NoAnswerError, Refusal, RequestError

FRAMES = 8
_WAITS = ("retry-after", "retry-after-ms")
_SAID = ("message", "type", "code", "param")
_STATUSES: tuple[tuple[type[Exception], int, str], ...] = (
    (ContextOverflowError, 400, "context_length_exceeded"),
    (ModelRefusalError, 400, "content_filter"),
    (ModelRateLimitError, 429, ""),
    (ModelAuthenticationError, 401, ""),
    (ModelPermissionDeniedError, 403, ""),
    (ModelNotFoundError, 404, ""),
    (ModelInvalidRequestError, 400, ""),
    (ModelTimeoutError, 504, ""),
    (ModelConnectionError, 502, ""),
    (ModelAPIError, 503, ""),
    (CutOffError, 502, ""),
    (TimeoutError, 504, ""),
    (ConnectionError, 502, ""),
    # A repetition would give the same again.
    (NotImplementedError, 501, ""),
    (NoAnswerError, 501, ""),
)
_NAMES = (("Timeout", 504), ("ConnectionError", 502), ("ConnectError", 502))
"""Parts of the names that HTTP clients and vendors' SDKs give to such errors, which have no common class."""

_log = structlog.get_logger("parley_llm.langchain")


def refusal_for(exc: BaseException, upstream: str, request_id: str) -> Refusal:
    """Return the error answer for an exception, and log what only the operator can see to."""
    if isinstance(exc, RequestError):
        return exc.refusal
    status = _own_status(exc)
    if status is not None:
        return Refusal(status, _words(exc), _headers(exc))
    status, code = _status_by_class(exc)
    if status >= 500:
        frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(exc.__traceback__)]
        _log.warning(
            "runnable_failed",
            upstream=upstream,
            request_id=request_id,
            status=status,
            error=f"{type(exc).__module__}.{type(exc).__qualname__}",
            frames=frames[-FRAMES:],
        )
    message = (
        str(exc) if isinstance(exc, NoAnswerError | CutOffError) else _MESSAGES.get(status, "The Runnable failed.")
    )
    return Refusal(status, {"message": message, "type": "runnable_error", **({"code": code} if code else {})})


_MESSAGES: Mapping[int, str] = {
    400: "The model refused the conversation.",
    501: "The Runnable can't do this.",
    502: "The Runnable could not reach its model.",
    504: "The Runnable ran out of time.",
}


def _own_status(exc: BaseException) -> int | None:
    """Return the HTTP status that an exception carries as OpenAI's and Anthropic's do; within a stream it is a code."""
    body = getattr(exc, "body", None)
    for status in (getattr(exc, "status_code", None), body.get("code") if isinstance(body, dict) else None):
        if isinstance(status, int) and 400 <= status <= 599:
            return status
    return None


def _status_by_class(exc: BaseException) -> tuple[int, str]:
    for kind, status, code in _STATUSES:
        if isinstance(exc, kind):
            return status, code
    names = [kind.__name__ for kind in type(exc).__mro__]
    return next((status for part, status in _NAMES if any(part in name for name in names)), 500), ""


def _words(exc: BaseException) -> dict[str, Any]:
    """Return what the vendor's error body says: OpenAI's client keeps the member `error`, Anthropic's the whole."""
    body = getattr(exc, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    said = {name: inner[name] for name in _SAID if isinstance(inner.get(name), str)} if isinstance(inner, dict) else {}
    return {"message": "", **said}


def _headers(exc: BaseException) -> dict[str, str]:
    headers = getattr(getattr(exc, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return {}
    return {name: str(headers[name]) for name in _WAITS if name in headers}
