"""An admitted call, and the attempts made for it: one after the other, or racing where the model is hedged."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from parley_llm.calls.attempts import Attempts, Next
from parley_llm.calls.hedging import Race
from parley_llm.calls.recording import CallRecord
from parley_llm.calls.routing import Hedge, Route, Target
from parley_llm.errors import (
    DeadlineExceededError,
    LLMError,
    StreamBrokenError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from parley_llm.exchange import Answer, Call, Course

T = TypeVar("T")


@dataclass(slots=True)
class Work:
    """An admitted call with what it works by. `now` and `deadline` are of the event loop's clock."""

    call: Call
    route: Route
    targets: tuple[Target, ...]
    record: CallRecord
    now: Callable[[], float]
    deadline: float
    larger: Callable[[str], Sequence[Target]] | None = None
    """Returns the targets that take what is too long for those of an alias."""
    answered: dict[Target, list[Answer]] = field(default_factory=dict)
    """Answers to the first pieces of a request that goes to a target in several."""


Once = Callable[[Work, Next, str], Awaitable[T]]
"""Makes one attempt with a model of that name."""


async def make_attempts(work: Work, once: Once[T], discard: Callable[[T], None]) -> T:
    """Make attempts until one succeeds. Raises the error to report. `discard` frees a result that came too late."""
    call, route = work.call, work.route
    attempts = Attempts(
        work.targets,
        route.retry,
        max_attempts=route.retry.max_attempts if call.max_attempts is None else call.max_attempts,
        deadline=work.deadline,
        now=work.now,
        larger=work.larger,
    )
    hedge = route.hedge
    if hedge is not None and (call.stream or hedge.plain):
        return await _race(work, attempts, hedge, once, discard)
    attempt = attempts.first()
    failure: LLMError | None = None
    while True:
        if attempt.wait_s > 0:
            await asyncio.sleep(attempt.wait_s)
            attempt = attempts.resumed(attempt)
        try:
            return await _try(work, work, attempt, once, failure)
        except LLMError as exc:
            failure = exc
        attempt = attempts.after(failure, attempt)


async def _race(work: Work, attempts: Attempts, hedge: Hedge, once: Once[T], discard: Callable[[T], None]) -> T:
    """Let attempts race. Each has a course of its own, since the caller is told only how the winner's went."""
    course = work.call.course

    async def begin(attempt: Next, after: LLMError | None) -> tuple[Course, T]:
        own = replace(work, call=replace(work.call, course=Course()))
        if hedge.same_target:
            own.answered = {}  # Two attempts at one target must not add to the same list.
        return own.call.course, await _try(work, own, attempt, once, after)

    attempt, (won, result) = await Race(attempts, hedge, begin, lambda lost: discard(lost[1])).run()
    work.record.won(attempt.target, attempt.target.model_for(work.call))
    course.adapted = won.adapted
    return result


async def _try(work: Work, own: Work, attempt: Next, once: Once[T], after: LLMError | None) -> T:
    """Make one attempt, with the work that is its own, and record it."""
    target, record = attempt.target, work.record
    model = target.model_for(work.call)
    span = record.attempt(target, model, after)
    error: BaseException | None = None
    try:
        return await once(own, attempt, model)
    except BaseException as exc:
        error = exc
        raise
    finally:
        now = work.now()
        _judge(target, error, now)
        record.circuit(target, target.circuit.state(now))
        record.attempt_ended(span, target.upstream.name, error, lost=attempt.lost)


def _judge(target: Target, error: BaseException | None, now: float) -> None:
    """Tell the target's circuit: only what speaks against the target itself counts as a failure."""
    if error is None:
        target.circuit.succeeded()
    elif isinstance(error, UpstreamUnavailableError | UpstreamTimeoutError | StreamBrokenError | UpstreamProtocolError):
        target.circuit.failed(now)
    elif isinstance(error, LLMError) and not isinstance(error, DeadlineExceededError):
        target.circuit.succeeded()
