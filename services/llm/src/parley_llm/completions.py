"""Chat completions: choose targets, make attempts, wait between them, pass the answer on, give up in time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from opentelemetry.trace import Tracer

from parley_llm.attempts import Attempts, Next
from parley_llm.errors import (
    DeadlineExceededError,
    DrainingError,
    InvalidRequestError,
    LLMError,
    RateLimitedError,
    StreamBrokenError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from parley_llm.exchange import ChatCall, Completion
from parley_llm.inflight import Inflight
from parley_llm.jsontext import load
from parley_llm.metrics import LLMMetrics
from parley_llm.recording import CallRecord
from parley_llm.routing import Route, Routing, Target
from parley_llm.streams import ChatStream
from parley_llm.upstream.connection import WireError
from parley_llm.upstream.errors import error_from_answer, error_from_event, error_from_exception
from parley_llm.upstream.shaping import media_urls, shape_body
from parley_llm.upstream.sse import MAX_EVENT
from parley_llm.upstream.stream import StreamJudge, unify_completion
from parley_llm.upstream.transport import Incoming

MAX_ANSWER = 64 * 1024 * 1024
MAX_ERROR_BODY = 64 * 1024
ERROR_BODY_S = 5.0
CLOCK_SLACK_S = 0.01  # The event loop's timers may go off a little early.

T = TypeVar("T")


class Completions:
    """The use case. `routing` may be replaced at any time; a call keeps the one it began with."""

    def __init__(self, routing: Routing, metrics: LLMMetrics, tracer: Tracer) -> None:
        self.routing = routing
        self.draining = False
        self.inflight = Inflight()
        self._metrics = metrics
        self._tracer = tracer

    async def complete(self, call: ChatCall) -> Completion:
        """Return a complete answer. Raises LLMError."""
        route, record, deadline, targets = self._admit(call, stream=False)
        text = 0
        usage: dict[str, Any] | None = None
        failure: BaseException | None = None

        async def once(attempt: Next) -> Completion:
            return await self._ask(call, route, attempt, deadline)

        try:
            completion = await self._attempts(call, route, record, deadline, targets, once)
            decoded = completion.decoded
            usage = decoded.get("usage")
            reasons = [str(choice.get("finish_reason")) for choice in decoded["choices"]]
            record.answered(str(decoded.get("id")), str(decoded.get("model")), reasons)
            text = len(completion.data)
            return completion
        except BaseException as exc:
            failure = exc
            raise
        finally:
            record.end(error=failure, usage=usage if isinstance(usage, dict) else None, text=text)

    async def stream(self, call: ChatCall) -> ChatStream:
        """Return a stream that has its first content. Close it in any case. Raises LLMError."""
        route, record, deadline, targets = self._admit(call, stream=True)

        async def once(attempt: Next) -> ChatStream:
            return await self._open(call, route, attempt, deadline, record)

        try:
            return await self._attempts(call, route, record, deadline, targets, once)
        except BaseException as exc:
            record.end(error=exc)
            raise

    def _admit(self, call: ChatCall, *, stream: bool) -> tuple[Route, CallRecord, float, tuple[Target, ...]]:
        """Check a call before anything is sent; from here on its record must be ended."""
        if self.draining:
            raise DrainingError("This process is stopping; send the call again, it reaches another one.")
        messages = call.values.get("messages")
        if not isinstance(messages, list) or not messages:
            raise InvalidRequestError("messages must be a list with at least one message.", param="messages")
        if not isinstance(call.values.get("model", ""), str):
            raise InvalidRequestError("model must be a string.", param="model")
        if not isinstance(call.values.get("stream_options"), dict | None):
            raise InvalidRequestError("stream_options must be an object.", param="stream_options")
        route = self.routing.route(call.model)
        call.caller.check_model(route.alias, call.model)
        targets = route.usable(call.upstream, list(media_urls(messages)))
        limit = route.timeouts.total if call.timeout_s is None else min(route.timeouts.total, call.timeout_s)
        if limit <= 0:
            raise DeadlineExceededError("The deadline had passed before the call began.")
        try:
            call.caller.enter()
        except RateLimitedError as error:
            self._metrics.rate_limited(call.caller.name, error.metadata["limit"]).inc()
            raise
        record = CallRecord(call, route, self._metrics, self._tracer, self.inflight, stream=stream)
        return route, record, asyncio.get_running_loop().time() + limit, targets

    async def _attempts(
        self,
        call: ChatCall,
        route: Route,
        record: CallRecord,
        deadline: float,
        targets: tuple[Target, ...],
        once: Callable[[Next], Awaitable[T]],
    ) -> T:
        """Make attempts until one succeeds. Raises the error to report."""
        now = asyncio.get_running_loop().time
        most = route.retry.max_attempts if call.max_attempts is None else call.max_attempts
        attempts = Attempts(targets, route.retry, max_attempts=most, deadline=deadline, now=now)
        attempt = attempts.first()
        failure: LLMError | None = None
        while True:
            if attempt.wait_s > 0:
                await asyncio.sleep(attempt.wait_s)
            target = attempt.target
            span = record.attempt(target, route.model_at(target, call.model), failure)
            error: BaseException | None = None
            try:
                result = await once(attempt)
            except LLMError as exc:
                error = failure = exc
            except BaseException as exc:
                error = exc
                raise
            finally:
                _judge_target(target, error, now())
                record.circuit(target, target.circuit.state(now()))
                record.attempt_ended(span, target.upstream.name, error)
            if error is None:
                return result
            assert failure is not None  # noqa: S101 - set together with error
            if isinstance(failure, DeadlineExceededError):
                raise failure
            attempt = attempts.after(failure, attempt)

    async def _send(self, call: ChatCall, route: Route, attempt: Next, deadline: float, answer_s: float) -> Incoming:
        """Send one attempt and return the answer with status 200. Raises LLMError."""
        stream = answer_s < float("inf")
        target = attempt.target
        upstream = target.upstream
        now = asyncio.get_running_loop().time()
        model = route.model_at(target, call.model)
        ask_usage = stream and upstream.preset.stream_usage
        body = shape_body(call.texts, model, target.params, ask_usage=ask_usage)
        request = upstream.chat_request(attempt.key, model, body, stream=stream)
        try:
            response = await upstream.transport.send(
                request, min(deadline, now + route.timeouts.connect), min(deadline, now + answer_s)
            )
        except (WireError, TimeoutError, OSError) as exc:
            raise _failure(upstream.name, exc, deadline, answer_s) from exc
        if response.status == 200:
            return response
        try:
            by = min(deadline, asyncio.get_running_loop().time() + ERROR_BODY_S)
            error_body = await response.read(by, MAX_ERROR_BODY, ERROR_BODY_S)
        except (WireError, TimeoutError, OSError):
            error_body = b""  # The status alone says enough.
        finally:
            response.close()
        raise error_from_answer(upstream.name, response.status, response.headers, error_body, attempt.key.secret)

    async def _ask(self, call: ChatCall, route: Route, attempt: Next, deadline: float) -> Completion:
        """Make one attempt at a complete answer."""
        name = attempt.target.upstream.name
        response = await self._send(call, route, attempt, deadline, float("inf"))
        try:
            _check_content_type(name, response, "json")
            data = await response.read(deadline, MAX_ANSWER, route.timeouts.idle)
        except (WireError, TimeoutError, OSError) as exc:
            raise _failure(name, exc, deadline, route.timeouts.idle) from exc
        finally:
            response.close()
        return _checked_completion(name, data, attempt.key.secret)

    async def _open(
        self, call: ChatCall, route: Route, attempt: Next, deadline: float, record: CallRecord
    ) -> ChatStream:
        """Make one attempt at a stream: until it has content, nothing is passed on and it may be repeated."""
        name = attempt.target.upstream.name
        loop = asyncio.get_running_loop()
        first_by = min(deadline, loop.time() + route.timeouts.first_token)
        response = await self._send(call, route, attempt, deadline, route.timeouts.first_token)
        opened = False
        try:
            _check_content_type(name, response, "event-stream")
            judge = StreamJudge(name, call.choices, attempt.key.secret)
            events = []
            size = 0
            while True:
                data = await response.next(first_by)
                new = judge.feed(data) if data else judge.end()
                events += new
                size += len(data)
                if any(event.has_content for event in new):
                    opened = True
                    return ChatStream(
                        call, route, attempt.target, response, judge, events, deadline, record, self.inflight
                    )
                if judge.error is not None:
                    raise judge.error
                if judge.over or size > MAX_EVENT:
                    raise StreamBrokenError(f"Upstream {name!r} sent a stream without content.")
        except (WireError, TimeoutError, OSError) as exc:
            raise _failure(name, exc, deadline, route.timeouts.first_token) from exc
        finally:
            if not opened:
                response.close()


def _judge_target(target: Target, error: BaseException | None, now: float) -> None:
    """Tell the target's circuit: only what speaks against the target itself counts as a failure."""
    if isinstance(error, UpstreamUnavailableError | UpstreamTimeoutError | StreamBrokenError | UpstreamProtocolError):
        target.circuit.failed(now)
    elif error is None or (isinstance(error, LLMError) and not isinstance(error, DeadlineExceededError)):
        target.circuit.succeeded()


def _failure(upstream: str, exc: Exception, deadline: float, limit_s: float) -> LLMError:
    """Translate a failed read or write, telling the call's deadline from a limit of the attempt."""
    if isinstance(exc, TimeoutError) and asyncio.get_running_loop().time() >= deadline - CLOCK_SLACK_S:
        return DeadlineExceededError(
            f"Upstream {upstream!r} had not answered when the call's time was over.", metadata={"upstream": upstream}
        )
    return error_from_exception(upstream, exc, silent_for_s=limit_s)


def _check_content_type(upstream: str, response: Incoming, wanted: str) -> None:
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type and wanted not in content_type:
        raise UpstreamProtocolError(
            f"Upstream {upstream!r} answered with {content_type[:60]!r} where {wanted} was expected;"
            " its base_url may be wrong.",
            metadata={"upstream": upstream},
        )


def _checked_completion(upstream: str, data: bytes, secret: str) -> Completion:
    """Return the answer if it is a chat completion. Raises LLMError: a status of 200 proves nothing."""
    try:
        decoded = load(data)
    except ValueError as exc:
        raise UpstreamProtocolError(
            f"Upstream {upstream!r} answered with something that is not JSON.", metadata={"upstream": upstream}
        ) from exc
    if isinstance(decoded, dict) and decoded.get("error"):
        raise error_from_event(upstream, decoded, secret)
    choices = decoded.get("choices") if isinstance(decoded, dict) else None
    well_formed = (
        isinstance(choices, list)
        and len(choices) > 0
        and all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
    )
    if not well_formed:
        raise UpstreamProtocolError(
            f"Upstream {upstream!r} answered with something that is not a chat completion.",
            metadata={"upstream": upstream},
        )
    return Completion(unify_completion(data, decoded), decoded)
