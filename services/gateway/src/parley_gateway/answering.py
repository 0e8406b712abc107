"""From a question to the model's answer in the platform's form: history, prompt, stream, rendering."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from time import monotonic

from parley_gateway.bots import Bot
from parley_gateway.errors import FormatterError, UpstreamAnswerError
from parley_gateway.messages import OutboundPart
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.platforms.base import Support
from parley_gateway.ports import LLM, AnswerDelta, AnswerFinish, AnswerReset, Formatter, PromptMessage
from parley_gateway.store.base import Conversations
from parley_gateway.store.records import AnswerPart, QueuedMessage, StoredAnswer

STOP_POLL_S = 0.5


class Answering:
    """Answers questions; keeps nothing."""

    def __init__(
        self,
        conversations: Conversations,
        formatter: Formatter,
        llm: LLM,
        metrics: GatewayMetrics,
        clock: Callable[[], float],
    ) -> None:
        """Take the collaborators."""
        self._conversations = conversations
        self._formatter = formatter
        self._llm = llm
        self._metrics = metrics
        self._clock = clock

    async def stopped(self, item: QueuedMessage) -> bool:
        """Tell whether the user stopped everything sent up to this message."""
        message = item.message
        stop = await self._conversations.stop_requested(message.conversation.key, message.lane)
        return stop >= item.received_at

    async def answer(self, bot: Bot, item: QueuedMessage, *, request_id: str) -> StoredAnswer | None:
        """Ask the model and render what it says; None when the user stopped it before its first word.

        An answer that couldn't be rendered comes back without parts, so that it is never asked for again.

        Raises
            UpstreamAnswerError, FormatterError, StoreUnavailableError
        """
        messages = await self._prompt(bot, item)
        written = _Written()
        with self._stage("llm"):
            stopped = await self._ask(bot, item, messages, written, request_id)
        if written.finish == "content_filter":
            raise UpstreamAnswerError("CONTENT_FILTERED", "a content filter cut the answer", retryable=False)
        text = written.text.strip()
        if stopped and not text:
            return None
        words = bot.sentences
        if stopped:
            text = f"{text}\n\n{words.stopped_mark}"
        elif written.finish == "length":
            text = f"{text}\n\n{words.cut_mark}"
        answer = StoredAnswer(text or words.empty, (), self._clock(), remember=bool(text))
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
        return replace(answer, parts=tuple(new_part(part) for part in reply.parts), truncated=reply.truncated)

    async def _prompt(self, bot: Bot, item: QueuedMessage) -> tuple[PromptMessage, ...]:
        history = await self._conversations.history(item.message.conversation.key, now=self._clock())
        with self._stage("build_prompt"):
            return await self._formatter.build_prompt(
                bot.settings.prompt,
                history,
                item.message.text,
                max_tokens=bot.settings.history_tokens,
                locale=bot.settings.locale,
            )

    async def _ask(
        self, bot: Bot, item: QueuedMessage, messages: tuple[PromptMessage, ...], written: "_Written", request_id: str
    ) -> bool:
        """Stream the answer into `written`; return whether the user stopped it."""
        reading = asyncio.create_task(self._read(bot, item, messages, written, request_id))
        watching = asyncio.create_task(self._watch_stop(item))
        try:
            await asyncio.wait({reading, watching}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
                return False
            watching.result()
            return True
        finally:
            reading.cancel()
            watching.cancel()
            await asyncio.gather(reading, watching, return_exceptions=True)

    async def _read(
        self, bot: Bot, item: QueuedMessage, messages: tuple[PromptMessage, ...], written: "_Written", request_id: str
    ) -> None:
        shows = bot.platform.capabilities["streaming"].support is Support.DONE
        session = bot.platform.open_reply(item.message, item.reply_state) if shows else None
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
                        written.add(text)
                        if session is not None:
                            await session.update(written.text)
                    case AnswerReset():
                        written.clear()
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
    """What the model has written so far."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.finish = ""

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def add(self, text: str) -> None:
        self._pieces.append(text)

    def clear(self) -> None:
        self._pieces.clear()


def new_part(part: OutboundPart) -> AnswerPart:
    """Return a part to send, with the idempotency key that all its tries will share."""
    return AnswerPart(part, uuid.uuid4().hex)


def plain_answer(sentence: str, now: float, *, failure: str = "") -> StoredAnswer:
    """Return an answer of one sentence that the gateway itself says; it never enters the history."""
    part = new_part(OutboundPart(text=sentence, fallback_text=sentence))
    return StoredAnswer(sentence, (part,), now, failure=failure, remember=False)
