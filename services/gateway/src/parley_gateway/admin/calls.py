"""What an operator can do: look at the queue and the dead letters, explain a message, pull levers."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from parley_gateway.admin import views
from parley_gateway.admin.errors import CallRefusedError, bad_request, not_found
from parley_gateway.admin.requests import ExpireRequest, PauseRequest, ResumeRequest
from parley_gateway.admin.views import View
from parley_gateway.bots import Bot, Bots
from parley_gateway.levers import Levers
from parley_gateway.messages import Conversation, delivery_key
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.pacing import Ramps
from parley_gateway.store.base import Store
from parley_gateway.store.records import reference_of
from parley_gateway.trails import Step, TrailWriter, read_steps

_REFERENCE = re.compile(r"[2-9a-z]{8}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of the running gateway that calls look into."""

    store: Store
    bots: Bots
    levers: Levers
    ramps: Ramps
    trails: TrailWriter
    metrics: GatewayMetrics
    clock: Callable[[], float]
    worker: str
    """Names this process, as in trails."""


class AdminCalls:
    """Does the calls. Each raises CallRefusedError and StoreUnavailableError, and returns what to show."""

    def __init__(self, gateway: Surroundings) -> None:
        """Take the gateway's parts."""
        self._gateway = gateway
        self._store = gateway.store

    async def status(self) -> View:
        """Show the queue of all replicas, the paused bots, and the models that this replica couldn't reach."""
        stats = await self._store.stats(now=self._gateway.clock())
        levers = self._gateway.levers
        await levers.refresh()
        return views.status(stats, levers.pauses(), self._gateway.ramps.states(), self._gateway.worker)

    async def dead_letters(self, *, limit: int, reason: str) -> View:
        """List dead letters, newest first; `reason` narrows them down."""
        found = await self._store.dead_letters(limit=limit)
        return {"dead_letters": [views.dead_letter(dead) for dead in found if reason in ("", dead.reason)]}

    async def dead_letter(self, reference: str, *, text: bool) -> View:
        """Show one dead letter."""
        dead = await self._store.dead_letter(reference)
        if dead is None:
            raise _no_dead_letter(reference)
        return views.dead_letter(dead, text=text)

    async def replay(self, reference: str) -> View:
        """Put a dead letter back into its lane. Done twice it is put back once."""
        dead = await self._store.dead_letter(reference)
        if dead is not None and dead.item is None:
            raise CallRefusedError(
                409, "unreadable", f"{reference} can't be read by this release, so it can't be replayed: see its record"
            )
        if dead is not None and dead.item is not None:
            if await self._store.replay(reference, now=self._gateway.clock()):
                self._gateway.trails.note(dead.item, "replayed", reason=dead.reason)
            return {"reference": reference, "outcome": "replayed"}
        if any(step.name == "replayed" for step in await self._steps(reference)):
            return {"reference": reference, "outcome": "already_replayed"}
        raise _no_dead_letter(reference)

    async def discard(self, reference: str) -> View:
        """Forget a dead letter."""
        dead = await self._store.dead_letter(reference)
        if not await self._store.discard(reference):
            raise _no_dead_letter(reference)
        if dead is not None and dead.item is not None:
            self._gateway.trails.note(dead.item, "discarded", reason=dead.reason)
        return {"reference": reference, "outcome": "discarded"}

    async def explain(self, given: str) -> View:
        """Show the way of a message, named by the id in a user's sentence or by the platform's id of the message."""
        for reference in self._references(given):
            steps = await self._steps(reference)
            dead = await self._store.dead_letter(reference)
            if steps or dead:
                return {
                    "reference": reference,
                    "steps": [views.step(step) for step in steps],
                    "dead_letter": views.dead_letter(dead) if dead else None,
                }
        raise not_found(
            f"nothing is known of {given!r}. It is looked up as the id in a user's sentence and as a platform's "
            "message id; what happened to a message is kept for 7 days"
        )

    async def pause(self, request: PauseRequest) -> View:
        """Pause a bot on all replicas."""
        settings = self._find_bot(request.bot).settings
        pause = await self._gateway.levers.pause(
            settings.platform, settings.name, notice=request.notice.strip(), for_s=request.for_s
        )
        return views.pause(pause)

    async def resume(self, request: ResumeRequest) -> View:
        """Let a bot work again; a bot that isn't configured any more can be resumed by its whole name."""
        platform, _, name = request.bot.rpartition("/")
        if not platform or self._gateway.levers.paused(platform, name) is None:
            settings = self._find_bot(request.bot).settings
            platform, name = settings.platform, settings.name
        paused = await self._gateway.levers.resume(platform, name)
        return {"platform": platform, "bot": name, "outcome": "resumed" if paused else "was_not_paused"}

    async def expire(self, request: ExpireRequest) -> View:
        """Expire the questions that wait for longer than a time and that nobody works on; their users are told."""
        begin = ""
        if request.bot:
            settings = self._find_bot(request.bot).settings
            # The key of a conversation in which the rest is empty.
            begin = Conversation(settings.platform, settings.name, "", "").key.removesuffix("/")
        now = self._gateway.clock()
        expired = await self._store.expire_older(
            now=now, received_before=now - request.older_than_s, conversations=begin
        )
        self._gateway.metrics.dead.labels("expired").inc(expired)
        return {"expired": expired}

    async def _steps(self, reference: str) -> list[Step]:
        # The newest steps may not be written yet.
        await self._gateway.trails.write()
        return read_steps(await self._store.trail(reference))

    def _references(self, given: str) -> list[str]:
        """Return the references that an id may stand for, the likeliest first."""
        given = given.strip()
        found = [given.lower()] if _REFERENCE.fullmatch(given.lower()) else []
        if given.count("/") == 2:
            found.append(reference_of(given))
        bots = (bot.settings for bot in self._gateway.bots)
        return found + [reference_of(delivery_key(bot.platform, bot.name, given)) for bot in bots]

    def _find_bot(self, given: str) -> Bot:
        """Return the bot called `name` or `platform/name`. Raises CallRefusedError."""
        bots = [bot for bot in self._gateway.bots if given in (bot.settings.name, _whole_name(bot))]
        if len(bots) == 1:
            return bots[0]
        known = ", ".join(sorted(_whole_name(bot) for bot in self._gateway.bots)) or "none"
        if bots:
            raise bad_request(f"several bots are called {given!r}; say which one: {known}")
        raise not_found(f"there is no bot {given!r}; there are: {known}")


def _whole_name(bot: Bot) -> str:
    return f"{bot.settings.platform}/{bot.settings.name}"


def _no_dead_letter(reference: str) -> CallRefusedError:
    return not_found(f"there is no dead letter {reference!r}: it was discarded or replayed, is too old, or never was")
