"""One message from its lane to its reply: answered once, stored, sent, remembered; or its failure told and filed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

import structlog
from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, SpanKind, Tracer

from parley_gateway.answering import Answering, plain_answer
from parley_gateway.bots import Bot, Bots
from parley_gateway.commands import Commands
from parley_gateway.delivery import Delivery
from parley_gateway.drafts import Draft
from parley_gateway.errors import DeliveryError, FormatterError, KeepForLaterError, UpstreamAnswerError
from parley_gateway.failures import GiveUp, judge
from parley_gateway.holding import Holding
from parley_gateway.messages import MessageKind
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.questions import Questions, turn_of
from parley_gateway.store.base import Lanes, Lease
from parley_gateway.store.records import DeadLetter, KeptAnswer, PartStatus, QueuedMessage, StoredAnswer, reference_of
from parley_gateway.trails import Trail

log = structlog.get_logger("parley.pipeline")


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A message that gets no answer."""

    outcome: str
    """The `outcome` label of `parley_gateway_replies_total`."""


RECALLED = Unanswered("recalled")


class Pipeline:
    """Works on one message at a time for each lane; all it knows between two steps is in the store."""

    def __init__(
        self,
        lanes: Lanes,
        bots: Bots,
        answering: Answering,
        questions: Questions,
        commands: Commands,
        delivery: Delivery,
        metrics: GatewayMetrics,
        tracer: Tracer,
        clock: Callable[[], float],
        holding: Holding,
        trail: Trail,
        *,
        max_attempts: int,
    ) -> None:
        """`max_attempts` bounds how often a message may bring its worker down."""
        self._holding = holding
        self._trail = trail
        self._lanes = lanes
        self._bots = bots
        self._answering = answering
        self._questions = questions
        self._commands = commands
        self._delivery = delivery
        self._metrics = metrics
        self._tracer = tracer
        self._clock = clock
        self._max_attempts = max_attempts

    async def process(self, lease: Lease, item: QueuedMessage) -> QueuedMessage | None:
        """Work on the head of a leased lane; return the lane's next message, still leased, or None when it is released.

        Raises
            LeaseLostError: another worker took over; nothing more may be written.
            StoreUnavailableError: the message stays where it is until a worker takes the lease over.
        """
        message = item.message
        parent = extract({"traceparent": item.traceparent})
        origin = trace.get_current_span(parent).get_span_context()
        span = self._tracer.start_span(
            "process inbound",
            context=parent,
            kind=SpanKind.CONSUMER,
            links=[Link(origin)] if origin.is_valid else [],
            attributes={
                "messaging.operation.name": "process",
                "messaging.destination.name": "inbound",
                "messaging.message.id": message.message_id,
                "parley.platform": message.conversation.platform,
                "parley.attempt": item.attempts + 1,
                "parley.queue_wait_s": max(0.0, self._clock() - item.received_at),
            },
        )
        with (
            trace.use_span(span, end_on_exit=True),
            structlog.contextvars.bound_contextvars(
                platform=message.conversation.platform, bot=message.conversation.bot, message_id=message.message_id
            ),
        ):
            return await self._process(lease, item)

    async def _process(self, lease: Lease, item: QueuedMessage) -> QueuedMessage | None:
        conversation = item.message.conversation
        bot = self._bots.find(conversation.platform, conversation.bot)
        if bot is None:
            return await self._bury(lease, item, "unknown_bot", conversation.platform)
        if item.attempts >= 2 * self._max_attempts:
            # Not even the sentence about the failure got out.
            return await self._bury(lease, item, "poison", bot.label)
        if item.message.kind is not MessageKind.QUESTION or item.answer is not None:
            return await self._work(bot, lease, item)
        bot = await self._questions.choices.applied(bot, conversation.key)
        held = self._holding.hold(bot, item)
        if held is not None:
            if not item.due_at:
                self._trail.note(item, held.why)
            await self._put_off(lease, item, held.until)
            return None
        with self._holding.asking(bot):
            return await self._work(bot, lease, item)

    async def _work(self, bot: Bot, lease: Lease, item: QueuedMessage) -> QueuedMessage | None:
        self._count_start(item)
        item = replace(item, attempts=item.attempts + 1)
        await self._lanes.update(lease, item)
        waited = max(0.0, self._clock() - item.received_at)
        notice = item.message.text if item.message.kind is MessageKind.NOTICE else ""
        self._trail.note(
            item, "began", attempt=item.attempts, failures=item.failures, waited_s=round(waited, 3), notice=notice
        )
        draft: Draft | None = None
        dropped = ""
        try:
            if self._asks_model(item):
                item, dropped = await self._questions.prepare(bot, lease, item)
                draft = self._answering.draft(bot, lease, item)
            answer = Unanswered(dropped) if dropped else await self._find_answer(bot, item, draft)
            while answer == RECALLED and (left := await self._questions.recalls.without_recalled(bot.platform, item)):
                # Only a part of what was joined is gone: the rest is asked again.
                item = _with_state(left, draft)
                draft = self._answering.draft(bot, lease, item)
                answer = await self._find_answer(bot, item, draft)
            item = _with_state(item, draft)
            if isinstance(answer, Unanswered):
                if not item.reply_state:
                    return await self._complete(bot, lease, item, answer.outcome)
                # The user sees an unfinished answer: it must not stay so.
                answer = plain_answer(bot.sentences.stopped, self._clock())
            # Stored with the first part's `sending`, before that part goes out; or by whatever ends the message.
            item = replace(item, answer=answer)
            return await self._reply(bot, lease, item, answer)
        except (UpstreamAnswerError, FormatterError) as exc:
            return await self._failed(bot, lease, _with_state(item, draft), exc)

    def _asks_model(self, item: QueuedMessage) -> bool:
        """Tell whether a message is a question that the model has yet to answer."""
        return item.message.kind is MessageKind.QUESTION and item.answer is None and item.attempts <= self._max_attempts

    async def _find_answer(self, bot: Bot, item: QueuedMessage, draft: Draft | None) -> StoredAnswer | Unanswered:
        """Return the answer to send, the stored one or a new one, or why there is none."""
        if item.attempts > self._max_attempts and item.answer is None:
            sentence = bot.sentences.failed.format(reference=reference_of(item.key))
            return plain_answer(sentence, self._clock(), failure="poison")
        if item.answer is not None:
            return item.answer if item.answer.parts else await self._answering.render(bot, item, item.answer)
        if draft is None:
            sentence = await self._commands.answer(bot, item)
            return plain_answer(sentence, self._clock()) if sentence else Unanswered("limited")
        if await self._answering.stopped(item):
            return Unanswered("stopped")
        if self._clock() >= item.expires_at:
            sentence = bot.sentences.expired.format(reference=reference_of(item.key))
            return plain_answer(sentence, self._clock(), failure="expired")
        used_up = await self._questions.tokens_used_up(bot, item)
        if used_up is not None:
            return plain_answer(used_up, self._clock()) if used_up else Unanswered("limited")
        return await self._ask(bot, item, draft)

    async def _ask(self, bot: Bot, item: QueuedMessage, draft: Draft) -> StoredAnswer | Unanswered:
        """Ask the model, until its answer is there or the question is taken back."""
        asking = asyncio.create_task(self._answering.answer(bot, item, draft, request_id=reference_of(item.key)))
        watching = asyncio.create_task(self._questions.recalls.wait(bot.platform, item))
        try:
            await asyncio.wait({asking, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                watching.result()
                return RECALLED
            with self._holding.outcome(bot):
                answer = asking.result()
        finally:
            asking.cancel()
            watching.cancel()
            await asyncio.gather(asking, watching, return_exceptions=True)
        if answer is None:
            return Unanswered("stopped")
        await self._questions.limits.use_tokens(bot, item.message, answer.tokens)
        return answer

    async def _reply(self, bot: Bot, lease: Lease, item: QueuedMessage, answer: StoredAnswer) -> QueuedMessage | None:
        if not answer.parts:
            # The model answered but the formatter didn't: the text is stored, the rest comes later.
            raise FormatterError("UNAVAILABLE", "the answer could not be rendered yet", retryable=True)
        if bot.platform.open_reply(item.message, item.reply_state).keeps_answers:
            return await self._complete(bot, lease, item, "kept", kept=self._keep(item, answer))
        began = monotonic()
        with self._tracer.start_as_current_span(f"deliver {bot.label}", kind=SpanKind.CLIENT):
            item, error = await self._delivery.send(bot, lease, item, answer)
        if isinstance(error, KeepForLaterError):
            log.warning("kept_for_later", code=error.code, error=error.message)
            return await self._complete(bot, lease, item, "kept", kept=self._keep(item, item.answer or answer))
        if error is not None:
            return await self._failed(bot, lease, item, error)
        self._metrics.stage_seconds.labels("deliver").observe(monotonic() - began)
        outcome = "failed" if answer.failure else "partial" if answer.truncated else "delivered"
        return await self._complete(bot, lease, item, outcome)

    def _keep(self, item: QueuedMessage, answer: StoredAnswer) -> KeptAnswer:
        """Return what is still unsent as an answer for the user's next request to carry."""
        parts = tuple(
            stored.part.text or stored.part.fallback_text
            for stored in answer.parts
            if stored.status is not PartStatus.SENT
        )
        # Messages that were joined are answered at the last one, as on every other platform.
        message = replace(item.message, message_id=item.message_ids[-1])
        question = "" if message.kind is MessageKind.NOTICE else message.text
        return KeptAnswer(message.message_id, message.delivery_key, question, parts, self._clock())

    async def _failed(
        self, bot: Bot, lease: Lease, item: QueuedMessage, error: UpstreamAnswerError | FormatterError | DeliveryError
    ) -> QueuedMessage | None:
        """Put the message off, or tell the user and give up."""
        reference = reference_of(item.key)
        self._note_failure(item, error)
        decision = judge(error, item.failures, bot.sentences, reference)
        log.warning("failed", error=str(error), kind=type(error).__name__, reference=reference, failures=item.failures)
        if not isinstance(decision, GiveUp):
            due_at = self._clock() + decision.wait_s
            item = replace(item, attempts=0, failures=item.failures + 1)
            self._trail.note(item, "put_off", due_at=round(due_at, 3), failures=item.failures)
            await self._put_off(lease, item, due_at)
            return None
        if isinstance(error, DeliveryError):
            return await self._bury(lease, item, decision.reason, bot.label)
        answer = plain_answer(decision.sentence, self._clock(), failure=decision.reason)
        return await self._reply(bot, lease, replace(item, answer=answer), answer)

    async def _put_off(self, lease: Lease, item: QueuedMessage, due_at: float) -> None:
        """Let a message wait at its place."""
        await self._lanes.update(lease, replace(item, due_at=due_at))
        await self._lanes.release(lease)

    def _note_failure(self, item: QueuedMessage, error: UpstreamAnswerError | FormatterError | DeliveryError) -> None:
        """Note codes and ids; an error's text may quote what somebody wrote. Delivery notes its own."""
        match error:
            case UpstreamAnswerError():
                self._trail.note(item, "llm_failed", reason=error.reason, **error.facts)
            case FormatterError():
                self._trail.note(item, "formatter_failed", reason=error.reason)

    async def _complete(
        self, bot: Bot, lease: Lease, item: QueuedMessage, outcome: str, *, kept: KeptAnswer | None = None
    ) -> QueuedMessage | None:
        now = self._clock()
        answer = item.answer
        turn = turn_of(item, answer, bot.sentences) if answer and answer.remember else None
        dead = DeadLetter(reference_of(item.key), item, answer.failure, now) if answer and answer.failure else None
        following = await self._lanes.complete(lease, item, now=now, turn=turn, kept=kept, dead=dead)
        self._trail.note(item, "kept" if kept else "done", outcome=outcome)
        if turn is not None:
            await self._questions.settle(bot, item)
        if dead is not None:
            self._trail.note(item, "dead", reason=dead.reason)
            self._metrics.dead.labels(dead.reason).inc()
        self._finish_metrics(bot.label, item, outcome)
        return following

    async def _bury(self, lease: Lease, item: QueuedMessage, reason: str, label: str) -> QueuedMessage | None:
        """Remove a message that can neither be answered nor explained to its user."""
        now = self._clock()
        dead = DeadLetter(reference_of(item.key), item, reason, now)
        following = await self._lanes.complete(lease, item, now=now, dead=dead)
        self._trail.note(item, "dead", reason=reason)
        self._metrics.dead.labels(reason).inc()
        self._finish_metrics(label, item, "failed")
        return following

    def _count_start(self, item: QueuedMessage) -> None:
        if item.attempts or item.failures:
            self._metrics.redelivered.inc()
        else:
            self._metrics.queue_wait.observe(max(0.0, self._clock() - item.received_at))

    def _finish_metrics(self, label: str, item: QueuedMessage, outcome: str) -> None:
        seconds = max(0.0, self._clock() - item.received_at)
        context = trace.get_current_span().get_span_context()
        exemplar = {"trace_id": f"{context.trace_id:032x}"} if context.trace_flags.sampled else None
        self._metrics.replies.labels(label, outcome).inc()
        self._metrics.reply_seconds.labels(label).observe(seconds, exemplar)
        log.info("replied", outcome=outcome, seconds=round(seconds, 3), kind=item.message.kind.value)


def _with_state(item: QueuedMessage, draft: Draft | None) -> QueuedMessage:
    """Return a message with what has to be stored of its unfinished answer."""
    return item if draft is None else replace(item, reply_state=draft.state)
