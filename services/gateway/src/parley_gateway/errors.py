"""Errors of the gateway.

GatewayError
├── StoreError
│   ├── StoreUnavailableError     the store can't be reached or written: don't acknowledge
│   ├── StoreLockedError          another process owns the SQLite file
│   ├── LeaseLostError            somebody else took the lane over: stop, write nothing
│   ├── BlobTooLargeError         one blob is larger than the limit
│   └── BlobQuotaError            all blobs together would be larger than the quota
├── WebhookError                  a request we refuse; carries the HTTP status and a metric outcome
│   ├── SignatureError
│   ├── StaleRequestError
│   ├── DecryptError
│   └── MalformedRequestError
├── DeliveryError                 a platform refused or missed a message we sent
│   ├── TransientDeliveryError    may pass: repeat later
│   ├── RefusedContentError       this rendering is refused: send the plainer fallback
│   ├── KeepForLaterError         can't be pushed now, the user's next message can fetch it
│   └── PermanentDeliveryError    will never pass: give up
├── UpstreamAnswerError           the LLM service answered with an error
└── FormatterError                the formatter answered with an error
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


class GatewayError(Exception):
    """Root of every error the gateway raises on purpose."""


class StoreError(GatewayError):
    """Root of the store's errors."""


class StoreUnavailableError(StoreError):
    """The store can't be reached or written now."""


class StoreLockedError(StoreError):
    """Another process holds the lock on the SQLite file."""


class LeaseLostError(StoreError):
    """The lane was taken over by another worker; whatever this one still has must not be written or sent."""


class BlobTooLargeError(StoreError):
    """The blob is larger than the store takes."""


class BlobQuotaError(StoreError):
    """The quota of all blobs together is used up."""


class WebhookError(GatewayError):
    """A webhook request is refused."""

    status: int = 400
    outcome: str = "error"
    """The `outcome` label of `parley_gateway_events_total`."""


class SignatureError(WebhookError):
    """The request doesn't prove that the platform sent it."""

    status = 403
    outcome = "rejected_signature"


class StaleRequestError(WebhookError):
    """The request's timestamp is outside the accepted window, or the request was already seen."""

    status = 403
    outcome = "rejected_stale"


class DecryptError(WebhookError):
    """The body can't be decrypted, or was encrypted for another app."""

    status = 400
    outcome = "rejected_decrypt"


class MalformedRequestError(WebhookError):
    """The body isn't what this platform sends."""

    status = 400
    outcome = "rejected_malformed"


@dataclass(eq=False)
class DeliveryError(GatewayError):
    """A call to a platform's API failed."""

    message: str
    code: str = ""
    """The platform's own error code, for logs and metrics."""
    retry_after_s: float | None = None
    """How long the platform asked us to wait, when it said so."""

    def __str__(self) -> str:
        """Return the message with the platform's code."""
        return f"{self.message} (code {self.code})" if self.code else self.message


class TransientDeliveryError(DeliveryError):
    """The failure may pass. The outcome may be unknown: the message may have arrived."""


class RefusedContentError(DeliveryError):
    """The platform refuses this rendering; a plainer one may pass."""


class KeepForLaterError(DeliveryError):
    """The platform lets nothing be pushed to this user now; the answer waits for the user's next message."""


class PermanentDeliveryError(DeliveryError):
    """No later try can succeed."""


@dataclass(eq=False)
class UpstreamAnswerError(GatewayError):
    """The LLM service answered a call with an error."""

    reason: str
    """The `reason` of `google.rpc.ErrorInfo`; empty when the call failed before the service answered."""
    message: str
    retryable: bool
    retry_after_s: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """How the call went, in ids, names and codes: attempts, upstream, the upstream's request id and status."""

    def __str__(self) -> str:
        """Return reason and message."""
        return f"{self.reason}: {self.message}"


@dataclass(eq=False)
class FormatterError(GatewayError):
    """The formatter answered a call with an error."""

    reason: str
    message: str
    retryable: bool

    def __str__(self) -> str:
        """Return reason and message."""
        return f"{self.reason}: {self.message}"
