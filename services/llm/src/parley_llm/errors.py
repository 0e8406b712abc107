"""Errors of the LLM service.

ServiceError
└── LLMError
    ├── InvalidRequestError            the caller's fault; a repetition fails again
    │   ├── ContextLengthExceededError
    │   ├── ContentFilteredError
    │   ├── RequestTooLargeError
    │   ├── IdempotencyMismatchError   its key was used for another request
    │   └── IdempotencyConflictError   the call with its key is too long to be joined
    ├── UnauthenticatedError           no key, or one that is unknown or expired
    ├── PermissionDeniedError          a known caller may not do this
    ├── ModelNotFoundError
    ├── RateLimitedError               the caller's own limit in this service
    ├── DrainingError                  this process stops; no attempt was made
    ├── StoppedError                   this process stopped before the answer was complete
    ├── DeadlineExceededError          the caller's deadline or the model's `total` ran out
    ├── InternalError                  a defect of this service
    └── UpstreamError
        ├── UpstreamAuthError          the operator's key or base_url is wrong
        ├── UpstreamQuotaError         the operator's account has no balance
        ├── UpstreamRateLimitError
        ├── UpstreamUnavailableError   connecting failed, 408, 409, 500, 502, 503 or 504
        ├── UpstreamStatusError        any other status that is not the caller's fault
        ├── UpstreamTimeoutError       silent, or stalled
        ├── UpstreamProtocolError      an answer that is not what the OpenAI API says
        ├── StreamBrokenError          a stream that ended before the answer did
        └── CircuitOpenError           too many failures lately; no attempt was made

Each class fixes the gRPC code, the stable `reason`, whether a repetition may succeed, the HTTP status, the
`type` of OpenAI's error format and the value of the metric label `error_type`.
"""

from collections.abc import Mapping
from typing import ClassVar

import grpc
from parley_common.errors import MAX_MESSAGE, ServiceError


class LLMError(ServiceError):
    """Root of every error this service raises on purpose."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"
    retryable = False
    http_status: int = 500  # An error of an upstream carries the upstream's own status.
    type: ClassVar[str] = "server_error"
    kind: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
        param: str | None = None,
    ) -> None:
        # An upstream's words may hold halves of surrogate pairs, which neither protobuf nor a socket takes.
        text = message[:MAX_MESSAGE].encode(errors="replace").decode()
        super().__init__(text, retry_after_s=retry_after_s, metadata=metadata)
        self.param = param


class InvalidRequestError(LLMError):
    """The request is wrong: here, or in the upstream's judgement."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"
    http_status = 400
    type = "invalid_request_error"
    kind = "bad_request"


class ContextLengthExceededError(InvalidRequestError):
    """The conversation is longer than the model takes."""

    reason = "CONTEXT_LENGTH_EXCEEDED"


class ContentFilteredError(InvalidRequestError):
    """The upstream's content filter refused the conversation."""

    reason = "CONTENT_FILTERED"
    kind = "content_filter"


class RequestTooLargeError(InvalidRequestError):
    """The request's body is larger than the service takes."""

    reason = "REQUEST_TOO_LARGE"
    http_status = 413


class IdempotencyMismatchError(InvalidRequestError):
    """The key was used for another request. 422 as the IETF's draft "The Idempotency-Key HTTP Header Field" says."""

    reason = "IDEMPOTENCY_MISMATCH"
    http_status = 422


class IdempotencyConflictError(InvalidRequestError):
    """The call with this key is being made, and has said more than is kept: it can't be told from its start."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "IDEMPOTENCY_CONFLICT"
    http_status = 409


class UnauthenticatedError(LLMError):
    """The caller named no key, or one that is unknown or expired."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"
    http_status = 401
    type = "authentication_error"
    kind = "auth"


class PermissionDeniedError(LLMError):
    """The caller is known and may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"
    http_status = 403
    type = "permission_error"
    kind = "auth"


class ModelNotFoundError(LLMError):
    """No alias and no upstream model has this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_NOT_FOUND"
    http_status = 404
    type = "invalid_request_error"
    kind = "bad_request"


def model_not_found(name: str) -> ModelNotFoundError:
    """Return the error for a name that does not exist, or does not for this caller: the two look alike."""
    return ModelNotFoundError(f"The model {name[:100]!r} does not exist or is not open to this key.", param="model")


class RateLimitedError(LLMError):
    """The caller's own limit in this service is used up."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"
    retryable = True
    http_status = 429
    type = "rate_limit_error"
    kind = "rate_limited"


class DrainingError(LLMError):
    """This process stops; the call was not started."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "DRAINING"
    retryable = True
    http_status = 503
    kind = "overloaded"


class StoppedError(LLMError):
    """This process stopped while the call was in work; attempts may have been made."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "SERVER_STOPPED"
    retryable = True
    http_status = 503
    kind = "overloaded"


class DeadlineExceededError(LLMError):
    """The caller's deadline, or the model's `total` limit, ran out."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"
    http_status = 504
    type = "timeout_error"
    kind = "timeout"


class InternalError(LLMError):
    """A defect of this service; the log has the details under the request id."""


class UpstreamError(LLMError):
    """Something went wrong between this service and the upstream, or behind it."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UPSTREAM_ERROR"
    http_status = 502
    type = "upstream_error"
    kind = "upstream_4xx"


class UpstreamAuthError(UpstreamError):
    """The upstream refuses the operator's key: the operator must act, not the caller."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "UPSTREAM_AUTH"
    kind = "auth"


class UpstreamQuotaError(UpstreamError):
    """The operator's account at the upstream has no balance; waiting does not help."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "UPSTREAM_QUOTA"
    http_status = 429
    kind = "rate_limited"


class UpstreamRateLimitError(UpstreamError):
    """The upstream asks to slow down."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "UPSTREAM_RATE_LIMITED"
    retryable = True
    http_status = 429
    type = "rate_limit_error"
    kind = "rate_limited"


class UpstreamUnavailableError(UpstreamError):
    """The upstream could not be reached, or answered 408, 409, 500, 502, 503 or 504."""

    reason = "UPSTREAM_UNAVAILABLE"
    retryable = True
    http_status = 503
    kind = "upstream_5xx"


class UpstreamStatusError(UpstreamError):
    """The upstream answered with a status that a repetition would not change, and not for the caller's fault."""

    reason = "UPSTREAM_STATUS"
    kind = "upstream_5xx"


class UpstreamConnectError(UpstreamUnavailableError):
    """No connection to the upstream came about, or it was lost before an answer."""

    kind = "connect"
    http_status = 502


class UpstreamTimeoutError(UpstreamError):
    """The upstream stayed silent longer than the model's `first_token` or `idle` limit."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "UPSTREAM_TIMEOUT"
    retryable = True
    http_status = 504
    type = "timeout_error"
    kind = "timeout"


class UpstreamProtocolError(UpstreamError):
    """The upstream's answer is not what the OpenAI API says."""

    reason = "UPSTREAM_PROTOCOL"
    kind = "stream_broken"


class StreamBrokenError(UpstreamError):
    """The upstream's stream ended, or reported an error, before the answer was complete."""

    reason = "STREAM_BROKEN"
    retryable = True
    kind = "stream_broken"


class CircuitOpenError(UpstreamError):
    """Every target failed too often lately; this call was not sent."""

    reason = "CIRCUIT_OPEN"
    retryable = True
    http_status = 503
    kind = "circuit_open"
