"""Calls that name an idempotency key: a repeat joins the call that is being made, or gets the answer it had.

Within this process, and for each caller by itself. The call is carried out in a task of its own, so that it outlives
the connection it came over: when nobody is left it goes on for a while, waiting for the repeat, and a whole answer is
kept for as long. Errors are shared by those who wait for them, and not kept: the next repeat is a new try.
"""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from parley_llm.calls.replay import LIMIT, Memory, Reader, Replay
from parley_llm.calls.streams import Stream
from parley_llm.errors import (
    DeadlineExceededError,
    IdempotencyConflictError,
    IdempotencyMismatchError,
    InvalidRequestError,
)
from parley_llm.exchange import Answer, Call, Course
from parley_llm.forms.form import Form
from parley_llm.upstream.events import StreamEvent

MAX_CALLS = 10_000
MAX_KEY = 255
PATIENCE_S = 3600.0
DECODED = 6  # How many times its text an answer takes when it is decoded too, roughly.

_Key = tuple[str, str]


def idempotency_key(name: str, text: str) -> str:
    """Return the key that a header or metadata entry holds. Raises InvalidRequestError."""
    if not 0 < len(text) <= MAX_KEY or not text.isascii() or not text.isprintable():
        raise InvalidRequestError(f"{name} must be 1 to {MAX_KEY} printable ASCII characters.")
    return text


@dataclass(slots=True, eq=False)
class _Shared:
    """A call with a key, being made or over; `opened` holds the media type of a stream that has begun.

    `waiting` is the number of those who are there for it, `size` what its whole answer counts in the memory.
    """

    key: _Key
    fingerprint: bytes
    course: Course
    form: Form | None
    replay: Replay
    opened: asyncio.Future[str]
    task: asyncio.Task[Answer | None] | None = None
    waiting: int = 0
    size: int = 0
    timer: asyncio.TimerHandle | None = None


class SharedStream:
    """What one caller reads of a shared stream, from its start; to be used like a `Stream`."""

    def __init__(self, content_type: str, reader: Reader, deadline: float, leave: Callable[[], None]) -> None:
        self.content_type = content_type
        self._reader = reader
        self._deadline = deadline
        self._leave = leave
        self._closed = False

    async def read(self, patience_s: float) -> list[StreamEvent] | None:
        """Return the next events, none when `patience_s` passed without, None after the last. Raises LLMError."""
        left = self._deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise _out_of_time()
        return await self._reader.next(min(patience_s, left))

    def close(self) -> None:
        """Read no more."""
        if not self._closed:
            self._closed = True
            self._reader.close()
            self._leave()


class Idempotency:
    """The calls with keys that this process makes, and those of their answers that it keeps for `linger_s`."""

    def __init__(self, linger_s: float) -> None:
        self._linger_s = linger_s
        self._memory = Memory(self._forget_oldest)
        self._calls: dict[_Key, _Shared] = {}
        self._kept: dict[_Key, _Shared] = {}

    async def answer(self, call: Call, make: Callable[[Call], Coroutine[Any, Any, Answer]]) -> Answer:
        """Return the whole answer of a call with a key; `make` makes the call unless it is made already."""
        joined = await self._join(call, lambda _: make(call))
        if joined is None:
            return await make(call)
        shared, deadline = joined
        try:
            answer = await _outcome(shared, deadline)
            assert answer is not None  # noqa: S101 - for the type checker: `make` returns one
            return answer
        finally:
            self._leave(call, shared)

    async def stream(self, call: Call, make: Callable[[Call], Awaitable[Stream]]) -> Stream | SharedStream:
        """Return the stream of a call with a key, from its start. Close it in any case."""
        joined = await self._join(call, lambda shared: _pump(call, make, shared))
        if joined is None:
            return await make(call)
        shared, deadline = joined
        reader = shared.replay.reader()
        try:
            await _outcome(shared, deadline, shared.opened)
        except BaseException:
            reader.close()
            self._leave(call, shared)
            raise
        _tell_course(call, shared)
        return SharedStream(shared.opened.result(), reader, deadline, lambda: self._leave(call, shared))

    async def _join(
        self, call: Call, begin: Callable[[_Shared], Coroutine[Any, Any, Answer | None]]
    ) -> tuple[_Shared, float] | None:
        """Return the call with this key, begun if need be, and when the caller's time is over.

        None when there are so many that this one can't be remembered. Each one joined must be left.
        """
        fingerprint = await _fingerprint(call)
        key = (call.caller.name, call.idempotency_key)
        loop = asyncio.get_running_loop()
        shared = self._calls.get(key)
        deadline = math.inf  # Whoever begins a call has its time limit watched by the call itself.
        if shared is None:
            if len(self._calls) >= MAX_CALLS and not self._forget_oldest():
                return None
            shared = _Shared(key, fingerprint, call.course, call.form, Replay(self._memory), loop.create_future())
            self._begin(shared, begin(shared))
        else:
            if shared.fingerprint != fingerprint:
                raise IdempotencyMismatchError("idempotency-key: this key was used for another request just now.")
            if not shared.replay.whole:
                raise IdempotencyConflictError("idempotency-key: the call is being made, and too long to be joined.")
            call.course.joined = True
            if call.timeout_s is not None:
                deadline = loop.time() + call.timeout_s
        shared.waiting += 1
        if shared.timer is not None and shared.key not in self._kept:
            shared.timer.cancel()
        return shared, deadline

    def _begin(self, shared: _Shared, made: Coroutine[Any, Any, Answer | None]) -> None:
        self._calls[shared.key] = shared
        if shared.form is not None:
            shared.form.share()
        shared.task = asyncio.get_running_loop().create_task(made)
        shared.task.add_done_callback(lambda _: self._over(shared))

    def _leave(self, call: Call, shared: _Shared) -> None:
        """Note that one who joined is gone; the call is given up when none comes back in time."""
        _tell_course(call, shared)
        shared.waiting -= 1
        if shared.waiting == 0 and shared.task is not None and not shared.task.done():
            shared.timer = asyncio.get_running_loop().call_later(self._linger_s, self._give_up, shared)

    def _give_up(self, shared: _Shared) -> None:
        self._forget(shared)
        if shared.task is not None:
            shared.task.cancel()

    def _over(self, shared: _Shared) -> None:
        """Keep the outcome of a call for a while, if it is a whole answer that isn't too long."""
        task = shared.task
        assert task is not None  # noqa: S101 - for the type checker: it has just ended
        if shared.timer is not None:
            shared.timer.cancel()
        if shared.form is not None:
            shared.form.close()
        failed = task.cancelled() or task.exception() is not None
        answer = None if failed else task.result()
        if not failed and self._linger_s > 0 and shared.replay.whole and self._fits(shared, answer):
            self._kept[shared.key] = shared
            shared.timer = asyncio.get_running_loop().call_later(self._linger_s, self._forget, shared)
        else:
            self._forget(shared)

    def _fits(self, shared: _Shared, answer: Answer | None) -> bool:
        """Count a whole answer in the memory; a stream is counted already."""
        size = len(answer.data) * DECODED if answer is not None else 0
        if size > LIMIT * DECODED or not self._memory.take(size):
            return False
        shared.size = size
        return True

    def _forget(self, shared: _Shared) -> None:
        if self._calls.get(shared.key) is not shared:
            return
        del self._calls[shared.key]
        self._kept.pop(shared.key, None)
        if shared.timer is not None:
            shared.timer.cancel()
        self._memory.free(shared.size)
        shared.replay.free()

    def _forget_oldest(self) -> bool:
        """Make room by the answer that has been kept longest; False when none is kept."""
        if not self._kept:
            return False
        self._forget(next(iter(self._kept.values())))
        return True


async def _pump(call: Call, make: Callable[[Call], Awaitable[Stream]], shared: _Shared) -> None:
    """Carry out a streamed call, and hand what it says to whoever reads it."""
    replay = shared.replay
    try:
        stream = await make(call)
        try:
            shared.opened.set_result(stream.content_type)
            while (events := await stream.read(PATIENCE_S)) is not None:
                if not await replay.add(events):
                    break
        finally:
            stream.close()
    except BaseException as exc:
        replay.end(exc)
        raise
    replay.end()


async def _outcome(shared: _Shared, deadline: float, *sooner: asyncio.Future[Any]) -> Answer | None:
    """Wait for the call, or for what comes `sooner`; being cancelled cancels only the wait. Raises what it raised."""
    task = shared.task
    assert task is not None  # noqa: S101 - for the type checker: it was begun when it was joined
    left = None if deadline == math.inf else max(0.0, deadline - asyncio.get_running_loop().time())
    waited: set[asyncio.Future[Any]] = {task, *sooner}
    await asyncio.wait(waited, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    if any(future.done() for future in sooner):
        return None
    if not task.done():
        raise _out_of_time()
    return task.result()


def _tell_course(call: Call, shared: _Shared) -> None:
    """Let one who joined see how the call went."""
    course = shared.course
    if call.course is not course:
        call.course.attempts, call.course.upstream = course.attempts, course.upstream
        call.course.model, call.course.adapted = course.model, course.adapted


def _out_of_time() -> DeadlineExceededError:
    return DeadlineExceededError("The call with this idempotency key was not over when the time of its repeat was.")


async def _fingerprint(call: Call) -> bytes:
    """Return a digest of what is asked for: the operation and the body, however it arrived."""
    digest = hashlib.sha256()

    def add(data: bytes) -> None:
        digest.update(b"%d:" % len(data))
        digest.update(data)

    add(f"{call.operation.name} {call.stream} {call.wants_usage}".encode())
    for name, text in call.texts.items():
        add(name.encode(errors="surrogatepass"))
        add(text.encode(errors="surrogatepass"))
    if call.form is not None:
        for part in call.form.parts:
            add(part.head.spelled())
            add(bytes(part.value))
            if part.head.filename is not None:
                add(str(part.size).encode())
                async for piece in call.form.pieces_of(part):
                    digest.update(piece)
    return digest.digest()
