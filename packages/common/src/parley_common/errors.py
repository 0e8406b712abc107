"""The base of the services' errors, and their form on the wire.

An error leaves a gRPC server as a canonical code, a message, `google.rpc.ErrorInfo` (reason, domain, metadata) and,
when a later try makes sense, `google.rpc.RetryInfo`. Details stay within 1 KiB.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"
MAX_MESSAGE = 400
"""Longest message on the wire, in bytes of UTF-8."""
MAX_METADATA = 120
"""Longest value in an error's metadata on the wire, in bytes of UTF-8."""
MAX_DETAILS = 1024
"""Longest serialized status: gRPC limits a call's headers to 8 KiB in all, and loses the code of one beyond that."""
MAX_RETRY_AFTER_S = 86_400.0

_MAX_KEY = 64


class ServiceError(Exception):
    """Root of every error that a service raises on purpose; each subclass fixes code, reason and retryable."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Keep the message, the wait that the other side asked for (seconds) and the variable facts."""
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.metadata = dict(metadata or {})


class InternalError(ServiceError):
    """A mistake in the service itself; the log has the rest."""


class OverloadedError(ServiceError):
    """The server has as many calls in work as it takes."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    retryable = True


class DrainingError(ServiceError):
    """The server stops and did not begin the call; another replica can serve it."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "DRAINING"
    retryable = True


class StoppedError(ServiceError):
    """The server stopped in the middle of the call: it may have had effects."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "SERVER_STOPPED"
    retryable = True


@dataclass(frozen=True, slots=True)
class RemoteError:
    """What a client learns from a failed call."""

    code: grpc.StatusCode
    reason: str
    """Empty when the call failed before a service could answer."""
    message: str
    retryable: bool
    """True when the answer carried RetryInfo."""
    retry_after_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def clip(text: str, limit: int) -> str:
    """Return the text cut to `limit` bytes of UTF-8, between two characters; lone surrogates become `?`."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def status_details(error: ServiceError, domain: str) -> bytes:
    """Return the serialized `google.rpc.Status` of an error, shortened to MAX_DETAILS by leaving metadata out."""
    metadata = {clip(key, _MAX_KEY): clip(value, MAX_METADATA) for key, value in error.metadata.items()}
    while True:
        status = status_pb2.Status(code=error.code.value[0], message=clip(error.message, MAX_MESSAGE))
        status.details.append(_pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=domain, metadata=metadata)))
        if error.retryable or error.retry_after_s is not None:
            status.details.append(_pack(_retry_info(error.retry_after_s)))
        raw: bytes = status.SerializeToString()
        if len(raw) <= MAX_DETAILS or not metadata:
            return raw
        metadata.popitem()


def _retry_info(seconds: float | None) -> error_details_pb2.RetryInfo:
    retry = error_details_pb2.RetryInfo()
    if seconds is not None and not math.isnan(seconds):
        # What an upstream asks for may be any number; a `Duration` holds only some.
        bounded = min(max(seconds, 0.0), MAX_RETRY_AFTER_S)
        # Assigning to a `Duration` of zero would leave the field unset.
        retry.retry_delay.CopyFrom(duration_pb2.Duration())
        retry.retry_delay.FromNanoseconds(round(bounded * 1e9))
    return retry


def _pack(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def error_from_rpc(error: grpc.aio.AioRpcError) -> RemoteError:
    """Return what a failed call says; details that can't be read count as none."""
    reason, metadata, retryable, retry_after = "", {}, False, None
    for detail in _details(error):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            retryable = True
            if retry.HasField("retry_delay"):
                retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return RemoteError(error.code(), reason, error.details() or "", retryable, retry_after, metadata)


def _details(error: grpc.aio.AioRpcError) -> list[any_pb2.Any]:
    raw = next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), None)
    if not isinstance(raw, bytes):
        return []
    try:
        return list(status_pb2.Status.FromString(raw).details)
    except DecodeError:
        return []
