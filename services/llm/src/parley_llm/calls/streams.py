"""A stream that has begun: its events, its time limits, its end."""

import asyncio
from dataclasses import dataclass

from parley_llm.calls.inflight import Inflight
from parley_llm.calls.recording import CallRecord
from parley_llm.calls.routing import Target
from parley_llm.errors import DeadlineExceededError, LLMError, StoppedError, UpstreamError
from parley_llm.exchange import Call
from parley_llm.operations.base import Judge
from parley_llm.upstream.connection import WireError
from parley_llm.upstream.errors import error_from_exception
from parley_llm.upstream.events import StreamEvent
from parley_llm.upstream.transport import Incoming

AFTERWORD_S = 2.0


@dataclass(slots=True)
class Opened:
    """An upstream's stream that has had its first content, with the events so far."""

    target: Target
    response: Incoming
    judge: Judge
    events: list[StreamEvent]

    def discard(self) -> None:
        """Let the stream go unread: the upstream is told to stop."""
        self.response.close()


class Stream:
    """An open stream. `read` until it returns None, and `close` in any case: closing stops the upstream."""

    def __init__(self, call: Call, opened: Opened, deadline: float, record: CallRecord, inflight: Inflight) -> None:
        self._call = call
        self._target = opened.target
        self._response = opened.response
        self._judge = opened.judge
        self._waiting: list[StreamEvent] = opened.events
        self._deadline = deadline
        self._idle_s = opened.target.timeouts.idle
        self._record = record
        self._error: BaseException | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._last_chunk = self._loop.time()
        self._inflight = inflight
        inflight.opened(self)

    @property
    def content_type(self) -> str:
        """The media type of the upstream's answer, which raw bytes leave with."""
        return self._response.headers.get("content-type", "application/octet-stream")

    async def read(self, patience_s: float) -> list[StreamEvent] | None:
        """Return the next chunks, none of them when `patience_s` passed without, None after the last.

        Raises LLMError when the stream breaks, stalls or runs out of time; nothing follows then.
        """
        if self._waiting:
            events, self._waiting = self._waiting, []
            return self._passed(events)
        if self._judge.over:
            return None
        try:
            return await self._next(patience_s)
        except LLMError as error:
            self._error = error
            raise

    def close(self) -> None:
        """End the stream: the upstream is told to stop unless it had finished."""
        if self._closed:
            return
        self._closed = True
        self._inflight.closed(self)
        finished = self._judge.over and self._error is None
        self._response.close(finished=finished)
        error = self._error or (self._judge.error if finished else asyncio.CancelledError())
        if isinstance(error, UpstreamError):
            self._target.circuit.failed(self._loop.time())
        judge = self._judge
        self._record.said(judge.response_id, judge.response_model, judge.reasons)
        usage = None
        if error is None or judge.usage is not None or judge.text:
            usage = self._call.operation.usage(self._call, {"usage": judge.usage}, judge.text)
        self._record.end(error=error, usage=usage)

    def cut(self) -> None:
        """End the stream with an error because the process stops."""
        if self._judge.error is None and not self._judge.over:
            self._judge.error = StoppedError("This process stopped before the answer was complete.")
            self._response.close()

    async def _next(self, patience_s: float) -> list[StreamEvent] | None:
        patience_by = self._loop.time() + patience_s
        while True:
            if self._judge.error is not None:
                raise self._judge.error
            if self._judge.over:
                return None
            # A complete answer may only be missing its usage and `[DONE]`: nobody should wait long for these.
            idle_s = min(self._idle_s, AFTERWORD_S) if self._judge.complete else self._idle_s
            idle_by = self._last_chunk + idle_s
            by = min(idle_by, self._deadline, patience_by)
            try:
                data = await self._response.next(by)
            except TimeoutError as exc:
                if self._judge.complete and self._loop.time() >= min(idle_by, self._deadline):
                    events = self._judge.end()
                else:
                    self._check_limits(exc, idle_by)
                    return []
            except (WireError, OSError) as exc:
                events = self._judge.end(cause=str(exc) or type(exc).__name__)
            else:
                events = self._judge.feed(data) if data else self._judge.end()
            # A chunk of usage that nobody asked for is no sign of life either.
            if events and (passed := self._passed(events)):
                return passed

    def _check_limits(self, exc: TimeoutError, idle_by: float) -> None:
        now = self._loop.time()
        name = self._target.upstream.name
        if now >= self._deadline:
            raise DeadlineExceededError(
                f"The answer of upstream {name!r} was not complete when the call's time was over.",
                metadata={"upstream": name},
            ) from exc
        if now >= idle_by:
            raise error_from_exception(name, exc, silent_for_s=self._idle_s) from exc

    def _passed(self, events: list[StreamEvent]) -> list[StreamEvent]:
        self._last_chunk = self._loop.time()
        if not self._call.wants_usage:
            events = [event for event in events if not event.usage_only]
        self._record.content(len(events))
        return events
