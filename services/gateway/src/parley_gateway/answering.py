"""From a question to the model's answer in the platform's form: history, prompt, stream, rendering."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from time import monotonic
from typing import Protocol

from parley_gateway.bots import Bot
from parley_gateway.drafts import Draft
from parley_gateway.errors import FormatterError, UpstreamAnswerError
from parley_gateway.limits import estimated_tokens
from parley_gateway.messages import InboundMessage, OutboundPart, Turn
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.ports import (
    LLM,
    AnswerCourse,
    AnswerDelta,
    AnswerFinish,
    AnswerReset,
    AnswerUsage,
    Formatter,
    PromptMessage,
)
from parley_gateway.questions import asked
from parley_gateway.store.base import Conversations, Lanes, Lease
from parley_gateway.store.records import AnswerPart, QueuedMessage, StoredAnswer
from parley_gateway.trails import Trail

STOP_POLL_S = 0.5


class AnsweringStore(Conversations, Lanes, Protocol):
    """The parts of the store that answering uses."""


class Answering:
    """Answers questions; keeps nothing."""

    def __init__(
        self,
        store: AnsweringStore,
        formatter: Formatter,
        llm: LLM,
        metrics: GatewayMetrics,
        clock: Callable[[], float],
        trail: Trail,
    ) -> None:
        """Take the collaborators."""
        self._trail = trail
        self._store = store
        self._formatter = formatter
        self._llm = llm
        self._metrics = metrics
        self._clock = clock

    async def stopped(self, item: QueuedMessage) -> bool:
        """Tell whether the user stopped this message, or everything sent up to it."""
        message = item.message
        for what in (message.lane, stop_mark(message)):
            if await self._store.stop_requested(message.conversation.key, what) >= item.received_at:
                return True
        return False

    def draft(self, bot: Bot, lease: Lease, item: QueuedMessage) -> Draft:
        """Return the unfinished answer to a question, as its user sees it."""
        return Draft(self._formatter, self._store, bot, lease, item)

    async def answer(self, bot: Bot, item: QueuedMessage, draft: Draft, *, request_id: str) -> StoredAnswer | None:
        """Ask the model, show what it says and render it; None when the user stopped it before its first word.

        An answer that couldn't be rendered comes back without parts, so that it is never asked for again.

        Raises
            UpstreamAnswerError, FormatterError, StoreUnavailableError
            LeaseLostError: another worker took over.
        """
        messages = await self._prompt(bot, item)
        written = _Written()
        with self._stage("llm"):
            stopped = await self._ask(bot, item, messages, written, draft, request_id)
        if written.finish == "content_filter":
            raise UpstreamAnswerError("CONTENT_FILTERED", "a content filter cut the answer", retryable=False)
        text = draft.text.strip()
        if stopped and not text:
            return None
        words = bot.sentences
        if stopped:
            text = f"{text}\n\n{words.stopped_mark}"
        elif written.finish == "length":
            text = f"{text}\n\n{words.cut_mark}"
        tokens = written.tokens or estimated_tokens(*(message.content for message in messages), text)
        answer = StoredAnswer(text or words.empty, (), self._clock(), tokens=tokens, remember=bool(text))
        finish = "stopped" if stopped else written.finish
        self._trail.note(item, "answered", finish=finish, characters=len(text), tokens=tokens, **written.course)
        with contextlib.suppress(FormatterError):
            return await self.render(bot, item, answer)
        return answer

    async def render(self, bot: Bot, item: QueuedMessage, answer: StoredAnswer) -> StoredAnswer:
        """Return the answer with its parts. Raises FormatterError."""
        with self._stage("format"):
            reply = await self._formatter.format_reply(
                answer.markdown,
                dialect=bot.platform.dialect,
                limits=bot.platform.part_limits(item.message),
                locale=bot.settings.locale,
                ai_label=bot.settings.labels_answers,
            )
        self._trail.note(
            item, "formatted", parts=len(reply.parts), dialect=bot.platform.dialect, truncated=reply.truncated
        )
        return replace(answer, parts=tuple(new_part(part) for part in reply.parts), truncated=reply.truncated)

    async def _prompt(self, bot: Bot, item: QueuedMessage) -> tuple[PromptMessage, ...]:
        history = _before(
            await self._store.history(item.message.conversation.key, now=self._clock()), item.message.replaces
        )
        with self._stage("build_prompt"):
            messages = await self._formatter.build_prompt(
                bot.settings.prompt,
                history,
                asked(item, bot.sentences),
                max_tokens=bot.settings.history_tokens,
                locale=bot.settings.locale,
            )
        model, prompt = bot.settings.model or "default", bot.settings.prompt
        self._trail.note(item, "prompt", prompt=prompt, turns=len(history), messages=len(messages), model=model)
        return messages

    async def _ask(
        self,
        bot: Bot,
        item: QueuedMessage,
        messages: tuple[PromptMessage, ...],
        written: "_Written",
        draft: Draft,
        request_id: str,
    ) -> bool:
        """Stream the answer into the draft; return whether the user stopped it."""
        reading = asyncio.create_task(self._read(bot, item, messages, written, draft, request_id))
        watching = asyncio.create_task(self._watch_stop(item))
        tasks = {reading, watching, asyncio.create_task(draft.show())}
        try:
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if reading in done or watching in done:
                    break
            return not reading.done()
        finally:
            for task in (*tasks, reading, watching):
                task.cancel()
            await asyncio.gather(reading, watching, *tasks, return_exceptions=True)

    async def _read(
        self,
        bot: Bot,
        item: QueuedMessage,
        messages: tuple[PromptMessage, ...],
        written: "_Written",
        draft: Draft,
        request_id: str,
    ) -> None:
        stream = self._llm.stream(
            messages,
            model=bot.settings.model,
            app=bot.settings.name,
            request_id=request_id,
            timeout_s=max(1.0, item.expires_at - self._clock()),
            # Once the LLM service has used up its own tries, repeating them here too would multiply them.
            max_attempts=1 if item.failures else None,
        )
        async with aclosing(stream):
            async for event in stream:
                match event:
                    case AnswerDelta(text):
                        draft.add(text)
                    case AnswerUsage(tokens):
                        written.tokens = tokens
                    case AnswerCourse(facts):
                        written.course = facts
                    case AnswerReset():
                        draft.clear()
                    case AnswerFinish(reason):
                        written.finish = reason

    async def _watch_stop(self, item: QueuedMessage) -> None:
        while not await self.stopped(item):  # noqa: ASYNC110 - the mark may come from another process
            await asyncio.sleep(STOP_POLL_S)

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = monotonic()
        try:
            yield
        finally:
            self._metrics.stage_seconds.labels(name).observe(monotonic() - began)


class _Written:
    """What is known of an answer besides its words."""

    def __init__(self) -> None:
        self.finish = ""
        self.tokens = 0
        self.course: Mapping[str, str] = {}


def stop_mark(message: InboundMessage) -> str:
    """Return the name, in the place of a lane's, of the mark that stops this one message."""
    return message.delivery_key


def _before(history: Sequence[Turn], message_id: str) -> Sequence[Turn]:
    """Return the turns before the one that a message was part of; all when there is none."""
    for index, turn in enumerate(history):
        if message_id and message_id in turn.message_ids:
            return history[:index]
    return history


def new_part(part: OutboundPart) -> AnswerPart:
    """Return a part to send, with the idempotency key that all its tries will share."""
    return AnswerPart(part, uuid.uuid4().hex)


def plain_answer(sentence: str, now: float, *, failure: str = "") -> StoredAnswer:
    """Return an answer of one sentence that the gateway itself says; it never enters the history."""
    part = new_part(OutboundPart(text=sentence, fallback_text=sentence))
    return StoredAnswer(sentence, (part,), now, failure=failure, remember=False)
