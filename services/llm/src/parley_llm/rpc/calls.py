"""What every method of the gRPC front does around its call: read the metadata, make the `Call`, set the trailers."""

from typing import Any

import grpc.aio
import structlog

from parley_llm.callers import Caller
from parley_llm.calls.core import Core
from parley_llm.calls.idempotency import idempotency_key
from parley_llm.exchange import (
    MAX_ATTEMPTS,
    MAX_TIMEOUT_MS,
    Call,
    printable,
    request_id_from,
    whole_number,
)
from parley_llm.forms.form import Form
from parley_llm.jsontext import JSONObject
from parley_llm.limits.headers import rate_limit_metadata
from parley_llm.operations.base import Operation

Context = grpc.aio.ServicerContext[Any, Any]


def metadata_of(context: Context) -> dict[str, str]:
    """Return the call's metadata that is text."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def caller_of(core: Core, context: Context) -> Caller:
    """Return who calls. Raises UnauthenticatedError."""
    return core.routing.callers.authenticate(metadata_of(context).get("authorization", ""))


def make_call(
    core: Core,
    context: Context,
    operation: Operation,
    body: JSONObject,
    *,
    stream: bool = False,
    form: Form | None = None,
) -> Call:
    """Return the call that a request asks for. Raises LLMError."""
    metadata = metadata_of(context)
    timeout_ms = whole_number("x-parley-timeout-ms", metadata.get("x-parley-timeout-ms", ""), MAX_TIMEOUT_MS)
    key = metadata.get("idempotency-key")
    limits = [context.time_remaining(), timeout_ms / 1000 if timeout_ms is not None else None]
    return Call(
        operation,
        caller_of(core, context),
        # The interceptor made one when the caller sent none; both must be the same in the log.
        request_id_from(structlog.contextvars.get_contextvars().get("request_id") or metadata.get("x-request-id")),
        body.values,
        body.texts,
        form=form,
        stream=stream,
        timeout_s=min((limit for limit in limits if limit is not None), default=None),
        max_attempts=whole_number("x-parley-max-attempts", metadata.get("x-parley-max-attempts", ""), MAX_ATTEMPTS),
        upstream=metadata.get("x-parley-upstream", ""),
        app=metadata.get("x-parley-app", ""),
        idempotency_key=idempotency_key("idempotency-key", key) if key is not None else "",
    )


def set_trailers(context: Context, call: Call) -> None:
    """Tell the caller how its call went."""
    course = call.course
    trailers = [("x-request-id", call.request_id), ("x-parley-attempts", str(course.attempts))]
    if course.attempts:
        trailers += [("x-parley-upstream", course.upstream), ("x-parley-model", printable(course.model))]
    if course.adapted:
        trailers.append(("x-parley-adapted", printable(", ".join(course.adapted))))
    if course.joined:
        trailers.append(("x-parley-joined", "true"))
    if course.standing is not None:
        trailers += rate_limit_metadata(course.standing)
    context.set_trailing_metadata(tuple(trailers))
