"""Chat completions: choose targets, make attempts, wait between them, pass the answer on, give up in time."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from opentelemetry.trace import Tracer

from parley_llm.attempts import Attempts, Next
from parley_llm.errors import (
    DeadlineExceededError,
    DrainingError,
    InvalidRequestError,
    LLMError,
    RateLimitedError,
    StoppedError,
    StreamBrokenError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from parley_llm.exchange import ChatCall, Completion
from parley_llm.inflight import Inflight, Waiting
from parley_llm.jsontext import load, repeats_a_name
from parley_llm.metrics import LLMMetrics
from parley_llm.recording import CallRecord, may_record
from parley_llm.routing import Route, Routing, Target
from parley_llm.streams import ChatStream
from parley_llm.upstream.adaptation import body_for
from parley_llm.upstream.answers import completion_from
from parley_llm.upstream.connection import WireError
from parley_llm.upstream.errors import error_from_answer, error_from_event, error_from_exception, reports_error
from parley_llm.upstream.shaping import media_urls
from parley_llm.upstream.sse import MAX_EVENT
from parley_llm.upstream.stream import StreamJudge
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
        self._tracer = tracer if may_record(tracer) else None

    async def complete(self, call: ChatCall) -> Completion:
        """Return a complete answer. Raises LLMError."""
        work = self._admit(call, stream=False)
        try:
            completion = await self._attempts(work, self._ask)
            work.record.answered(completion.decoded)
        except BaseException as exc:
            work.record.end(error=exc)
            raise
        usage = completion.decoded.get("usage")
        work.record.end(usage=usage if isinstance(usage, dict) else None, text=len(completion.data))
        return completion

    async def stream(self, call: ChatCall) -> ChatStream:
        """Return a stream that has its first content. Close it in any case. Raises LLMError."""
        work = self._admit(call, stream=True)
        try:
            return await self._attempts(work, self._open)
        except BaseException as exc:
            work.record.end(error=exc)
            raise

    def _admit(self, call: ChatCall, *, stream: bool) -> "_Work":
        """Check a call before anything is sent; from here on its record must be ended."""
        if self.draining:
            raise DrainingError("This process is stopping; send the call again, it reaches another one.")
        messages = call.values.get("messages")
        if not isinstance(messages, list) or not messages:
            raise InvalidRequestError("messages must be a list with at least one message.", param="messages")
        if not isinstance(call.values.get("model", ""), str):
            raise InvalidRequestError("model must be a string.", param="model")
        options = call.values.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise InvalidRequestError("stream_options must be an object.", param="stream_options")
        route = self.routing.route(call.model)
        call.caller.check_model(route.alias, call.model)
        # Only a list inside the list of messages can hold content parts.
        if call.texts["messages"].count("[") > 1 and repeats_a_name(call.texts["messages"]):
            raise InvalidRequestError("messages must not name a member of an object twice.", param="messages")
        targets = route.usable(call.upstream, list(media_urls(messages)))
        targets = route.able(targets, call.values, call.model, stream=stream)
        limit = route.timeouts.total if call.timeout_s is None else min(route.timeouts.total, call.timeout_s)
        if limit <= 0:
            raise DeadlineExceededError("The deadline had passed before the call began.")
        try:
            call.caller.enter()
        except RateLimitedError as error:
            self._metrics.rate_limited(call.caller.name, error.metadata["limit"]).value += 1
            raise
        record = CallRecord(call, route, self._metrics, self._tracer, self.inflight, stream=stream)
        now = asyncio.get_running_loop().time
        return _Work(call, route, targets, record, now, now() + limit)

    async def _attempts(self, work: "_Work", once: Callable[["_Work", Next, str], Awaitable[T]]) -> T:
        """Make attempts until one succeeds. Raises the error to report."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine runs in a task
        waiting = Waiting(task)
        self.inflight.opened(waiting)
        try:
            return await _try_in_turn(work, once)
        except asyncio.CancelledError as exc:
            if not waiting.was_cut:
                raise
            waiting.resume()
            raise StoppedError("This process stopped before the answer was complete.") from exc
        finally:
            self.inflight.closed(waiting)

    async def _ask(self, work: "_Work", attempt: Next, model: str) -> Completion:
        """Make one attempt at a complete answer."""
        name = attempt.target.upstream.name
        idle_s = work.route.timeouts.idle
        response = await _send(work, attempt, model, stream=False)
        try:
            _check_content_type(name, response, "json")
            data = await response.read(work.deadline, MAX_ANSWER, idle_s)
        except (WireError, TimeoutError, OSError) as exc:
            raise _failure(name, exc, work, idle_s) from exc
        finally:
            response.close()
        return completion_from(name, attempt.target.upstream.preset, data, attempt.key.secret)

    async def _open(self, work: "_Work", attempt: Next, model: str) -> ChatStream:
        """Make one attempt at a stream: until it has content, nothing is passed on and it may be repeated."""
        name = attempt.target.upstream.name
        first_token_s = work.route.timeouts.first_token
        first_by = min(work.deadline, work.now() + first_token_s)
        response = await _send(work, attempt, model, stream=True)
        opened = False
        try:
            if "json" in response.headers.get("content-type", ""):
                await _raise_reported(work, attempt, response)
            _check_content_type(name, response, "event-stream")
            judge = StreamJudge(name, attempt.target.upstream.preset, work.call.choices, attempt.key.secret)
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
                        work.call,
                        work.route,
                        attempt.target,
                        response,
                        judge,
                        events,
                        work.deadline,
                        work.record,
                        self.inflight,
                    )
                if judge.error is not None:
                    raise judge.error
                if judge.over or size > MAX_EVENT:
                    raise StreamBrokenError(f"Upstream {name!r} sent a stream without content.")
        except (WireError, TimeoutError, OSError) as exc:
            raise _failure(name, exc, work, first_token_s) from exc
        finally:
            if not opened:
                response.close()


@dataclass(slots=True)
class _Work:
    """An admitted call with what it works by. `now` and `deadline` are of the event loop's clock."""

    call: ChatCall
    route: Route
    targets: tuple[Target, ...]
    record: CallRecord
    now: Callable[[], float]
    deadline: float


async def _try_in_turn(work: _Work, once: Callable[[_Work, Next, str], Awaitable[T]]) -> T:
    call, route, record, now = work.call, work.route, work.record, work.now
    most = route.retry.max_attempts if call.max_attempts is None else call.max_attempts
    attempts = Attempts(work.targets, route.retry, max_attempts=most, deadline=work.deadline, now=now)
    attempt = attempts.first()
    failure: LLMError | None = None
    while True:
        if attempt.wait_s > 0:
            await asyncio.sleep(attempt.wait_s)
        target = attempt.target
        model = route.model_at(target, call.model)
        span = record.attempt(target, model, failure)
        error: BaseException | None = None
        try:
            return await once(work, attempt, model)
        except LLMError as exc:
            error = failure = exc
        except BaseException as exc:
            error = exc
            raise
        finally:
            _judge_target(target, error, now())
            record.circuit(target, target.circuit.state(now()))
            record.attempt_ended(span, target.upstream.name, error)
        if isinstance(failure, DeadlineExceededError):
            raise failure
        attempt = attempts.after(failure, attempt)


async def _send(work: _Work, attempt: Next, model: str, *, stream: bool) -> Incoming:
    """Send one attempt and return the answer with status 200. Raises LLMError."""
    target = attempt.target
    upstream = target.upstream
    timeouts = work.route.timeouts
    answer_s = timeouts.first_token if stream else math.inf
    body = body_for(work.call, model, target.profiles.of(model, stream=stream), stream=stream)
    request = upstream.chat_request(attempt.key, model, body, stream=stream)
    now = work.now()
    try:
        response = await upstream.transport.send(
            request, min(work.deadline, now + timeouts.connect), min(work.deadline, now + answer_s)
        )
    except (WireError, TimeoutError, OSError) as exc:
        raise _failure(upstream.name, exc, work, answer_s) from exc
    if response.status == 200:
        return response
    try:
        error_body = await response.read(min(work.deadline, work.now() + ERROR_BODY_S), MAX_ERROR_BODY, ERROR_BODY_S)
    except (WireError, TimeoutError, OSError):
        error_body = b""  # The status alone says enough.
    finally:
        response.close()
    secret = attempt.key.secret
    raise error_from_answer(upstream.name, upstream.preset, response.status, response.headers, error_body, secret)


async def _raise_reported(work: _Work, attempt: Next, response: Incoming) -> None:
    """Raise the error that an answer with status 200 reports in place of the events that were asked for."""
    upstream = attempt.target.upstream
    data = await response.read(min(work.deadline, work.now() + ERROR_BODY_S), MAX_ERROR_BODY, ERROR_BODY_S)
    try:
        decoded = load(data)
    except ValueError:
        return
    if isinstance(decoded, dict) and reports_error(decoded, upstream.preset):
        raise error_from_event(upstream.name, upstream.preset, decoded, attempt.key.secret)


def _judge_target(target: Target, error: BaseException | None, now: float) -> None:
    """Tell the target's circuit: only what speaks against the target itself counts as a failure."""
    if error is None:
        target.circuit.succeeded()
    elif isinstance(error, UpstreamUnavailableError | UpstreamTimeoutError | StreamBrokenError | UpstreamProtocolError):
        target.circuit.failed(now)
    elif isinstance(error, LLMError) and not isinstance(error, DeadlineExceededError):
        target.circuit.succeeded()


def _failure(upstream: str, exc: Exception, work: _Work, limit_s: float) -> LLMError:
    """Translate a failed read or write, telling the call's deadline from a limit of the attempt."""
    if isinstance(exc, TimeoutError) and work.now() >= work.deadline - CLOCK_SLACK_S:
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
