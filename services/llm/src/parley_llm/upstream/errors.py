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
from parley_llm.presets.schema import Meaning, Preset
from parley_llm.upstream.connection import ResponseFormatError, UploadStalledError, WireError
from parley_llm.upstream.transport import ConnectTimeoutError

RETRIED_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504})
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id")
_MATCHED = 4000  # Characters of a message that the rules look at.
_CLASSES: dict[Meaning, type[LLMError]] = {
    "no_balance": UpstreamQuotaError,
    "content_filter": ContentFilteredError,
    "too_long": ContextLengthExceededError,
    "rate_limited": UpstreamRateLimitError,
    "busy": UpstreamUnavailableError,
    "auth": UpstreamAuthError,
    "bad_parameter": InvalidRequestError,
    "model_not_found": ModelNotFoundError,
}


@dataclass(frozen=True, slots=True)
class _Said:
    """What an error body says, from whichever of the usual shapes."""

    message: str = ""
    code: str = ""
    type: str = ""
    inner_code: str = ""
    param: str | None = None

    @property
    def words(self) -> frozenset[str]:
        """What rules match by, in small letters."""
        return frozenset((self.code.lower(), self.type.lower(), self.inner_code.lower()))


def error_from_exception(upstream: str, exc: Exception, *, silent_for_s: float | None = None) -> LLMError:
    """Translate a failure of the connection; `silent_for_s` is the limit that ran out, if one did."""
    metadata = {"upstream": upstream}
    if isinstance(exc, ConnectTimeoutError):
        return UpstreamConnectError(f"Upstream {upstream!r} did not accept a connection in time.", metadata=metadata)
    if isinstance(exc, UploadStalledError):
        return UpstreamTimeoutError(f"Upstream {upstream!r} {exc}.", metadata=metadata)
    if isinstance(exc, TimeoutError):
        limit = f" for {silent_for_s:g} s" if silent_for_s is not None else ""
        return UpstreamTimeoutError(f"Upstream {upstream!r} said nothing{limit}.", metadata=metadata)
    if isinstance(exc, ResponseFormatError):
        return UpstreamProtocolError(f"Upstream {upstream!r}: {exc}.", metadata=metadata)
    if isinstance(exc, WireError | OSError | ssl.SSLError):
        return UpstreamConnectError(f"Upstream {upstream!r}: {exc}.", metadata=metadata)
    raise exc


def error_from_answer(
    upstream: str, preset: Preset, status: int, headers: Mapping[str, str], body: bytes, secret: str = ""
) -> LLMError:
    """Translate an answer with an error status. `secret` is the API key, which is taken out of the text."""
    try:
        decoded: object = load(body)
    except ValueError:
        decoded = None
    error = _classify(upstream, preset, status, _said(decoded, preset), secret)
    error.metadata = {**error.metadata, "upstream_status": str(status)}
    for name in _REQUEST_ID_HEADERS:
        if name in headers:
            error.metadata = {**error.metadata, "upstream_request_id": headers[name][:128]}
            break
    if error.retryable:
        error.retry_after_s = retry_after(headers)
    return error


def reports_error(answer: Mapping[str, Any], preset: Preset) -> bool:
    """Tell whether an answer or chunk that came with status 200 says that it is an error."""
    if answer.get("error"):
        return True
    form = preset.error_body
    if form is None:
        return False
    told = answer.get(form.member)
    return isinstance(told, dict) and form.code in told and str(told[form.code]).lower() not in form.ok


def error_from_event(upstream: str, preset: Preset, chunk: object, secret: str = "") -> LLMError:
    """Translate an error that arrived inside a body whose status was 200."""
    said = _said(chunk, preset)
    status = int(said.code) if said.code.isdigit() and 400 <= int(said.code) <= 599 else 0
    if status or preset.meaning(0, said.words, said.message[:_MATCHED]):
        return _classify(upstream, preset, status, said, secret)
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


def _classify(upstream: str, preset: Preset, status: int, said: _Said, secret: str) -> LLMError:
    metadata = _metadata(upstream, said)
    meaning = preset.meaning(status, said.words, said.message[:_MATCHED])
    kind = _CLASSES[meaning] if meaning else _class_for(status)
    if kind is UpstreamQuotaError:
        return UpstreamQuotaError(f"The account at upstream {upstream!r} has no balance.", metadata=metadata)
    shown = f" (status {status})" if status else ""
    if kind is UpstreamAuthError:
        # The upstream's own text may quote a part of the key.
        return UpstreamAuthError(f"Upstream {upstream!r} refused the configured API key{shown}.", metadata=metadata)
    text = _clean(said.message, secret)
    message = f"Upstream {upstream!r}: {text}" if text else f"Upstream {upstream!r} answered with an error{shown}."
    error = kind(message, metadata=metadata, param=said.param)
    own_status = kind in (InvalidRequestError, UpstreamUnavailableError, UpstreamStatusError)
    # A rule may give a status another sense than it has by itself; then it would mislead the caller.
    if own_status and (not meaning or status // 100 == error.http_status // 100):
        error.http_status = status
    return error


def _class_for(status: int) -> type[LLMError]:
    """Return what a status means by itself."""
    if status in RETRIED_STATUSES:
        return UpstreamUnavailableError
    if status >= 500:
        return UpstreamStatusError
    return InvalidRequestError if status >= 400 else UpstreamProtocolError


def _said(decoded: object, preset: Preset) -> _Said:
    if not isinstance(decoded, dict):
        return _Said()
    form = preset.error_body
    if form and not decoded.get("error") and isinstance(decoded.get(form.member), dict):
        told = decoded[form.member]
        return _Said(str(told.get(form.message) or ""), str(told.get(form.code) or ""))
    inner: Any = decoded.get("error") or decoded
    if isinstance(inner, str):
        return _Said(message=inner, code=str(decoded.get("code") or ""))
    if not isinstance(inner, dict):
        return _Said()
    detail = inner.get("message") or inner.get("detail") or ""
    param = inner.get("param")
    nested = inner.get("innererror")
    return _Said(
        detail if isinstance(detail, str) else dump(detail),
        str(inner.get("code") or inner.get("status") or ""),
        str(inner.get("type") or ""),
        str(nested.get("code") or "") if isinstance(nested, dict) else "",
        param if isinstance(param, str) else None,
    )


def _clean(text: str, secret: str) -> str:
    return text.replace(secret, "[key]") if secret else text


def _metadata(upstream: str, said: _Said) -> dict[str, str]:
    code = (said.code or said.type).encode(errors="replace").decode()
    return {"upstream": upstream, "upstream_code": code[:64]} if code else {"upstream": upstream}
