"""Carries out a call: choose targets, make attempts, wait between them, pass the answer on, give up in time."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from parley_common.telemetry import Telemetry

from parley_llm.calls.attempts import Next
from parley_llm.calls.idempotency import Idempotency, SharedStream
from parley_llm.calls.inflight import Inflight, Waiting
from parley_llm.calls.recording import CallRecord
from parley_llm.calls.routing import Routing, Target
from parley_llm.calls.streams import Opened, Stream
from parley_llm.calls.work import Once, Work, make_attempts
from parley_llm.errors import (
    DeadlineExceededError,
    DrainingError,
    InvalidRequestError,
    LLMError,
    PermissionDeniedError,
    StoppedError,
    StreamBrokenError,
    UpstreamProtocolError,
)
from parley_llm.exchange import Answer, Call
from parley_llm.jsontext import load
from parley_llm.limits.base import OverLimitError
from parley_llm.metrics import LLMMetrics
from parley_llm.upstream.body import Upload
from parley_llm.upstream.connection import WireError
from parley_llm.upstream.errors import error_from_answer, error_from_event, error_from_exception, reports_error
from parley_llm.upstream.source import Source
from parley_llm.upstream.transport import Incoming

MAX_ANSWER = 64 * 1024 * 1024
MAX_ERROR_BODY = 64 * 1024
ERROR_BODY_S = 5.0
CLOCK_SLACK_S = 0.01  # The event loop's timers may go off a little early.

T = TypeVar("T")


class Core:
    """The use case. `routing` may be replaced at any time; a call keeps the one it began with."""

    def __init__(self, routing: Routing, metrics: LLMMetrics, telemetry: Telemetry, *, linger_s: float = 10.0) -> None:
        self.routing = routing
        self.draining = False
        self.inflight = Inflight()
        self._shared = Idempotency(linger_s)
        self._metrics = metrics
        self._telemetry = telemetry

    async def answer(self, call: Call) -> Answer:
        """Return a whole answer. Raises LLMError."""
        if call.idempotency_key:
            return await self._shared.answer(call, self._answer)
        return await self._answer(call)

    async def _answer(self, call: Call) -> Answer:
        work = await self._admit(call)
        try:
            answer = await self._attempts(work, self._ask, _nothing_to_free)
            work.record.answered(answer.decoded)
        except BaseException as exc:
            work.record.end(error=exc)
            raise
        work.record.end(usage=answer.usage)
        return answer

    async def stream(self, call: Call) -> Stream | SharedStream:
        """Return a stream that has its first content. Close it in any case. Raises LLMError."""
        if call.idempotency_key:
            return await self._shared.stream(call, self._stream)
        return await self._stream(call)

    async def _stream(self, call: Call) -> Stream:
        work = await self._admit(call)
        try:
            opened = await self._attempts(work, self._open, Opened.discard)
        except BaseException as exc:
            work.record.end(error=exc)
            raise
        return Stream(call, opened, work.deadline, work.record, self.inflight)

    async def _admit(self, call: Call) -> Work:
        """Check a call and let it in within its caller's limits; from here on its record must be ended."""
        if self.draining:
            raise DrainingError("This process is stopping; send the call again, it reaches another one.")
        operation = call.operation
        operation.check(call)
        route = self.routing.route(call.model, default=operation.default_model)
        call.caller.check_model(route.alias, call.model)
        targets = route.candidates(call)
        limit = route.timeouts.total if call.timeout_s is None else min(route.timeouts.total, call.timeout_s)
        if limit <= 0:
            raise DeadlineExceededError("The deadline had passed before the call began.")
        now = asyncio.get_running_loop().time
        deadline = now() + limit
        self.inflight.enter()
        try:
            admission = await self._until_cut(call.caller.account.admit(limit), "the caller's limits let the call in")
            call.course.standing = admission.standing
            record = CallRecord(call, admission, route, self._metrics, self._telemetry, self.inflight)
        except OverLimitError as error:
            call.course.standing = error.standing
            self._metrics.rate_limited(call.caller.name, error.limit).value += 1
            raise
        finally:
            self.inflight.leave()
        larger = partial(_larger, self.routing, call) if route.context_fallback else None
        return Work(call, route, targets, record, now, deadline, larger)

    async def _attempts(self, work: Work, once: Once[T], discard: Callable[[T], None]) -> T:
        """Make attempts until one succeeds. Raises the error to report."""
        return await self._until_cut(make_attempts(work, once, discard), "the answer was complete")

    async def _until_cut(self, part: Awaitable[T], what: str) -> T:
        """Wait for a part of a call. Raises StoppedError when this process can't wait any longer."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine runs in a task
        waiting = Waiting(task)
        self.inflight.opened(waiting)
        try:
            return await part
        except asyncio.CancelledError as exc:
            if not waiting.was_cut:
                raise
            waiting.resume()
            raise StoppedError(f"This process stopped before {what}.") from exc
        finally:
            self.inflight.closed(waiting)

    async def _ask(self, work: Work, attempt: Next, model: str) -> Answer:
        """Make one attempt at a whole answer."""
        operation, target = work.call.operation, attempt.target
        bodies = operation.bodies(work.call, target, model)
        if len(bodies) == 1:
            return await self._ask_once(work, attempt, model, bodies[0])
        # What a target has answered of a request in pieces is not asked again when one of them fails.
        answered = work.answered.setdefault(target, [])
        while len(answered) < len(bodies):
            answered.append(await self._ask_once(work, attempt, model, bodies[len(answered)]))
        return operation.merged(work.call, answered)

    async def _ask_once(self, work: Work, attempt: Next, model: str, body: bytes | Upload) -> Answer:
        """Send one request and read its whole answer."""
        source = _source(attempt)
        operation = work.call.operation
        idle_s = attempt.target.timeouts.idle
        response = await _send(work, attempt, model, body)
        try:
            if not _is_a(response, operation.answer_type):
                raise _unexpected_type(source.name, response)
            data = await response.read(work.deadline, MAX_ANSWER, idle_s)
        except (WireError, TimeoutError, OSError) as exc:
            raise _failure(source.name, exc, work, idle_s) from exc
        finally:
            response.close()
        return operation.answer(source, work.call, data, response.headers.get("content-type", ""))

    async def _open(self, work: Work, attempt: Next, model: str) -> Opened:
        """Make one attempt at a stream: until it has content, nothing is passed on and it may be repeated."""
        source, call = _source(attempt), work.call
        operation = call.operation
        first_token_s = attempt.target.timeouts.first_token
        first_by = min(work.deadline, work.now() + first_token_s)
        (body,) = operation.bodies(call, attempt.target, model)
        response = await _send(work, attempt, model, body)
        if not isinstance(body, bytes):
            first_by = min(work.deadline, work.now() + first_token_s)
        opened = False
        try:
            judge = operation.follow(source, call, _media_type(response))
            if judge is None:
                if _is_a(response, "json"):
                    await _raise_reported(work, source, response)
                raise _unexpected_type(source.name, response)
            events = []
            size = 0
            while True:
                data = await response.next(first_by)
                new = judge.feed(data) if data else judge.end()
                events += new
                size += len(data)
                if any(event.has_content for event in new):
                    opened = True
                    return Opened(attempt.target, response, judge, events)
                if judge.error is not None:
                    raise judge.error
                if judge.over or size > operation.max_event:
                    raise StreamBrokenError(f"Upstream {source.name!r} sent a stream without content.")
        except (WireError, TimeoutError, OSError) as exc:
            raise _failure(source.name, exc, work, first_token_s) from exc
        finally:
            if not opened:
                response.close()


def _nothing_to_free(_: Answer) -> None:
    """Let a whole answer go, whose connection is free already."""


def _larger(routing: Routing, call: Call, alias: str) -> Sequence[Target]:
    """Return the targets that may take a call which is too long for an alias's own.

    The operator has chosen them for the alias: the caller need not be allowed to name theirs. What the call itself may
    not reach, such as an upstream it did not ask for, it doesn't reach this way either.
    """
    fallback = routing.routes[alias].context_fallback
    if not fallback or call.operation.refers_to_state(call):
        return ()
    route = routing.routes[fallback]
    try:
        return route.candidates(call)
    except (PermissionDeniedError, InvalidRequestError):
        return ()


async def _send(work: Work, attempt: Next, model: str, body: bytes | Upload) -> Incoming:
    """Send one request and return the answer with status 200. Raises LLMError."""
    call, upstream = work.call, attempt.target.upstream
    operation = call.operation
    timeouts = attempt.target.timeouts
    answer_s = timeouts.first_token if call.stream else math.inf
    headers = operation.headers(call, body)
    request = upstream.request(attempt.key, operation.name, operation.path, model, headers, body)
    request.request_id, request.caller = call.request_id, call.caller.name
    now = work.now()
    answer_by = min(work.deadline, now + answer_s)
    if not isinstance(body, bytes):
        # An upload takes as long as it takes, if only it goes on; then the wait for the answer begins.
        answer_by, request.idle_s, request.answer_s = work.deadline, timeouts.idle, answer_s
    try:
        response = await upstream.transport.send(request, min(work.deadline, now + timeouts.connect), answer_by)
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


async def _raise_reported(work: Work, source: Source, response: Incoming) -> None:
    """Raise the error that an answer with status 200 reports in place of the events that were asked for."""
    data = await response.read(min(work.deadline, work.now() + ERROR_BODY_S), MAX_ERROR_BODY, ERROR_BODY_S)
    try:
        decoded = load(data)
    except ValueError:
        return
    if isinstance(decoded, dict) and reports_error(decoded, source.preset):
        raise error_from_event(source.name, source.preset, decoded, source.secret)


def _source(attempt: Next) -> Source:
    upstream = attempt.target.upstream
    return Source(upstream.name, upstream.preset, attempt.key.secret)


def _failure(upstream: str, exc: Exception, work: Work, limit_s: float) -> LLMError:
    """Translate a failed read or write, telling the call's deadline from a limit of the attempt."""
    if isinstance(exc, TimeoutError) and work.now() >= work.deadline - CLOCK_SLACK_S:
        return DeadlineExceededError(
            f"Upstream {upstream!r} had not answered when the call's time was over.", metadata={"upstream": upstream}
        )
    return error_from_exception(upstream, exc, silent_for_s=limit_s)


def _media_type(response: Incoming) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_a(response: Incoming, wanted: str) -> bool:
    """Tell whether an answer's media type contains a word; one that is not named is taken for the right one."""
    media_type = _media_type(response)
    return not media_type or wanted in media_type


def _unexpected_type(upstream: str, response: Incoming) -> UpstreamProtocolError:
    media_type = _media_type(response)
    return UpstreamProtocolError(
        f"Upstream {upstream!r} answered with {media_type[:60]!r}, which is not what was asked for;"
        " its base_url may be wrong.",
        metadata={"upstream": upstream},
    )
