"""The one place where what upstreams say and what connections do becomes this service's errors."""

import email.utils
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parley_llm.errors import (
    ContentFilteredError,
    ContextLengthExceededError,
    InvalidRequestError,
    LLMError,
    ModelNotFoundError,
    StreamBrokenError,
    UpstreamAuthError,
    UpstreamConnectError,
    UpstreamProtocolError,
    UpstreamQuotaError,
    UpstreamRateLimitError,
    UpstreamStatusError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from parley_llm.jsontext import dump, load
from parley_llm.upstream.connection import ResponseFormatError, WireError
from parley_llm.upstream.transport import ConnectTimeoutError

RETRIED_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504})

# OpenAI: insufficient_quota, billing_*; DashScope: Arrearage; Zhipu: 1113 (all in their error code pages).
_NO_BALANCE = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "arrearage", "1113"})
# OpenAI and Azure: content_filter, content_policy_violation; DashScope: data_inspection_failed; Zhipu: 1301.
_FILTERED = frozenset({"content_filter", "content_policy_violation", "data_inspection_failed", "1301"})
_TOO_LONG = frozenset({"context_length_exceeded", "1261"})
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id")


@dataclass(frozen=True, slots=True)
class _Said:
    """What an error body says, from whichever of the usual shapes."""

    message: str = ""
    code: str = ""
    type: str = ""
    param: str | None = None


def error_from_exception(upstream: str, exc: Exception, *, silent_for_s: float | None = None) -> LLMError:
    """Translate a failure of the connection; `silent_for_s` is the limit that ran out, if one did."""
    metadata = {"upstream": upstream}
    if isinstance(exc, ConnectTimeoutError):
        return UpstreamConnectError(f"Upstream {upstream!r} did not accept a connection in time.", metadata=metadata)
    if isinstance(exc, TimeoutError):
        limit = f" for {silent_for_s:g} s" if silent_for_s is not None else ""
        return UpstreamTimeoutError(f"Upstream {upstream!r} said nothing{limit}.", metadata=metadata)
    if isinstance(exc, ResponseFormatError):
        return UpstreamProtocolError(f"Upstream {upstream!r}: {exc}.", metadata=metadata)
    if isinstance(exc, WireError | OSError | ssl.SSLError):
        return UpstreamConnectError(f"Upstream {upstream!r}: {exc}.", metadata=metadata)
    raise exc


def error_from_answer(
    upstream: str, status: int, headers: Mapping[str, str], body: bytes, secret: str = ""
) -> LLMError:
    """Translate an answer with an error status. `secret` is the API key, which is taken out of the text."""
    try:
        decoded: object = load(body)
    except ValueError:
        decoded = None
    error = _classify(upstream, status, _said(decoded), secret)
    error.metadata = {**error.metadata, "upstream_status": str(status)}
    for name in _REQUEST_ID_HEADERS:
        if name in headers:
            error.metadata = {**error.metadata, "upstream_request_id": headers[name][:128]}
            break
    if error.retryable:
        error.retry_after_s = retry_after(headers)
    return error


def error_from_event(upstream: str, chunk: object, secret: str = "") -> LLMError:
    """Translate an error that arrived inside a body whose status was 200."""
    said = _said(chunk)
    status = int(said.code) if said.code.isdigit() and 400 <= int(said.code) <= 599 else 0
    if status or {said.code.lower(), said.type.lower()} & (_NO_BALANCE | _FILTERED | _TOO_LONG):
        return _classify(upstream, status or 400, said, secret)
    text = _clean(said.message, secret) or "no details"
    return StreamBrokenError(f"Upstream {upstream!r} reported an error: {text}", metadata=_metadata(upstream, said))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the wait in seconds that `retry-after-ms` or `Retry-After` (seconds or a date, RFC 9110) asks for."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) / scale
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        moment = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def _classify(upstream: str, status: int, said: _Said, secret: str) -> LLMError:
    metadata = _metadata(upstream, said)
    words = {said.code.lower(), said.type.lower()}
    if status == 402 or words & _NO_BALANCE:
        return UpstreamQuotaError(f"The account at upstream {upstream!r} has no balance.", metadata=metadata)
    if status in (401, 403):
        # The upstream's own text may quote a part of the key.
        return UpstreamAuthError(
            f"Upstream {upstream!r} refused the configured API key (status {status}).", metadata=metadata
        )
    text = _clean(said.message, secret)
    message = f"Upstream {upstream!r}: {text}" if text else f"Upstream {upstream!r} answered with status {status}."
    kind = _class_for(status, words, text)
    error = kind(message, metadata=metadata, param=said.param)
    if kind in (InvalidRequestError, UpstreamUnavailableError, UpstreamStatusError):
        error.http_status = status
    return error


def _class_for(status: int, words: set[str], text: str) -> type[LLMError]:
    if status == 429:
        return UpstreamRateLimitError
    if status in RETRIED_STATUSES:
        return UpstreamUnavailableError
    if status >= 500:
        return UpstreamStatusError
    if status < 400:
        return UpstreamProtocolError
    if status == 404:
        return ModelNotFoundError
    if words & _TOO_LONG or "maximum context length" in text:
        return ContextLengthExceededError
    if words & _FILTERED:
        return ContentFilteredError
    return InvalidRequestError


def _said(decoded: object) -> _Said:
    if not isinstance(decoded, dict):
        return _Said()
    inner: Any = decoded.get("error") or decoded
    if isinstance(inner, str):
        return _Said(message=inner, code=str(decoded.get("code") or ""))
    if not isinstance(inner, dict):
        return _Said()
    detail = inner.get("message") or inner.get("detail") or ""
    message = detail if isinstance(detail, str) else dump(detail)
    param = inner.get("param")
    return _Said(
        message,
        str(inner.get("code") or inner.get("status") or ""),
        str(inner.get("type") or ""),
        param if isinstance(param, str) else None,
    )


def _clean(text: str, secret: str) -> str:
    return text.replace(secret, "[key]") if secret else text


def _metadata(upstream: str, said: _Said) -> dict[str, str]:
    code = (said.code or said.type).encode(errors="replace").decode()
    return {"upstream": upstream, "upstream_code": code[:64]} if code else {"upstream": upstream}
