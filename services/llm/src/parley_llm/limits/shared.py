"""Limits and use counted in Redis, together with other replicas; in this process alone while Redis can't be used."""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from parley_llm.limits.base import CONCURRENCY_RETRY_S, Admission, Allowance, Level, OverLimitError, Standing
from parley_llm.limits.ledger import AMOUNTS, DAY_S, Amounts, Batch, ByModel, Ledger
from parley_llm.limits.local import LocalLimits
from parley_llm.limits.scripts import ADMIT, CHARGE, COUNT, LOOK, Script

Command = tuple[str | int | float, ...]

CALL_SLACK_S = 5.0
"""A call whose process died counts as running until its deadline and this."""
KEPT_IN_ALL_S = 400 * DAY_S
KEPT_DAY_S = 40 * DAY_S
KEPT_BATCH_S = 2 * DAY_S
_MICRO = 1_000_000


class StoreDownError(Exception):
    """Redis can't be used, or did not answer in time."""


class Link(Protocol):
    """A way to Redis."""

    up: bool

    async def start(self) -> None:
        """Begin to connect."""

    async def stop(self) -> None:
        """Close."""

    async def ask(self, command: Command) -> Any:
        """Return the answer to a command. Raises StoreDownError."""

    def tell(self, command: Command, *, keep: bool = False) -> None:
        """Send a command without waiting; one that is kept is sent again until it arrived."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What Redis knows of a caller."""

    standing: Standing
    since: float
    ever: ByModel
    today: ByModel


class SharedStore:
    """The counts in Redis. Every key of a caller has its name as hash tag, so that a cluster keeps them together."""

    def __init__(
        self, link: Link, *, call_slack_s: float = CALL_SLACK_S, clock: Callable[[], float] = time.time
    ) -> None:
        self.link = link
        self.call_slack_s = call_slack_s
        self._clock = clock
        self._process = secrets.token_hex(6)
        self._telling = asyncio.Lock()
        self._numbers = itertools.count(1)

    def call_id(self) -> str:
        """Return a name that no other call of any process has."""
        return f"{self._process}-{next(self._numbers)}"

    async def tell_use(self, ledgers: Iterable[tuple[str, Ledger]]) -> None:
        """Tell Redis what it doesn't know yet; what can't be told stays in the ledgers."""
        if not self.link.up:
            return
        async with self._telling:
            batches = [(name, ledger, batch) for name, ledger in ledgers for batch in ledger.batches()]
            asked = [self.link.ask(self._count(name, batch)) for name, _, batch in batches]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for (_, ledger, batch), answer in zip(batches, answers, strict=True):
                if not isinstance(answer, BaseException):
                    ledger.told(batch)

    async def read(self, caller: str, allowance: Allowance, day: int) -> Reading:
        """Return what Redis knows; what the ledger calls untold is not in it. Raises StoreDownError."""
        keys = (*_limit_keys(caller, allowance), _key(caller, "use"), _key(caller, f"use:{day}"))
        async with self._telling:
            requests, tokens, running, ever, today = await self.link.ask(_run(LOOK, keys))
        found = _fields(ever)
        since = float(found.pop("since", self._clock()))
        standing = _standing(allowance, requests, tokens, running)
        return Reading(standing, since, _by_model(found), _by_model(_fields(today)))

    def _count(self, caller: str, batch: Batch) -> Command:
        keys = (
            _key(caller, "use"),
            _key(caller, f"use:{batch.day}"),
            _key(caller, f"told:{self._process}:{batch.day}"),
        )
        sums: list[str | int | float] = []
        for model, amounts in batch.models.items():
            for name in AMOUNTS:
                if amount := getattr(amounts, name):
                    sums += (f"{model}:{name}", repr(amount))
        kept = (KEPT_IN_ALL_S, KEPT_DAY_S, KEPT_BATCH_S)
        return _run(COUNT, keys, batch.number, repr(self._clock()), *kept, *sums)


class SharedLimits:
    """The limits of one caller in all processes. This process's own count goes along, for when Redis fails."""

    def __init__(self, caller: str, allowance: Allowance, store: SharedStore, local: LocalLimits) -> None:
        self.local = local
        self._caller = caller
        self._allowance = allowance
        self._store = store
        self._link = store.link
        self._keys = _limit_keys(caller, allowance)

    async def enter(self, within_s: float) -> Admission:
        """Let a call in that ends within so many seconds. Raises OverLimitError; each admission needs one `leave`."""
        if not self._allowance.limited or not self._link.up:
            return await self.local.enter(within_s)
        call_id = self._store.call_id()
        try:
            answer = await self._link.ask(self._admit(call_id, within_s))
        except StoreDownError:
            self._forget(call_id)  # It may have been let in before the link failed.
            return await self.local.enter(within_s)
        except asyncio.CancelledError:
            self._forget(call_id)
            raise
        refused, wait, requests, tokens, running = answer
        standing = _standing(self._allowance, requests, tokens, running)
        if refused:
            limit = refused.decode()
            wait_s = CONCURRENCY_RETRY_S if limit == "concurrency" else wait / _MICRO
            raise OverLimitError(self._caller, limit, wait_s, standing)
        self.local.count()
        return Admission(standing, call_id)

    def leave(self, admission: Admission, tokens: int) -> None:
        """End a call that used so many tokens."""
        self.local.leave(admission, tokens)
        if tokens and self._allowance.tokens_per_minute:
            # While Redis is down this is dropped: charged later, an hour's tokens would all come due at once.
            self._link.tell(_run(CHARGE, self._keys[1:2], self._allowance.tokens_per_minute, tokens))
        if admission.call_id:
            self._forget(admission.call_id)

    def _admit(self, call_id: str, within_s: float) -> Command:
        allowance = self._allowance
        limits = (allowance.requests_per_minute or 0, allowance.tokens_per_minute or 0, allowance.concurrency or 0)
        return _run(ADMIT, self._keys, *limits, call_id, int((within_s + self._store.call_slack_s) * _MICRO))

    def _forget(self, call_id: str) -> None:
        if self._allowance.concurrency is not None:
            self._link.tell(("ZREM", self._keys[2], call_id), keep=True)


def _key(caller: str, name: str) -> str:
    return f"parley:llm:{{{caller}}}:{name}"


def _limit_keys(caller: str, allowance: Allowance) -> tuple[str, str, str]:
    # The limit is part of the key: a changed one starts anew, also while replicas still have the one before.
    return (
        _key(caller, f"requests:{allowance.requests_per_minute or 0}"),
        _key(caller, f"tokens:{allowance.tokens_per_minute or 0}"),
        _key(caller, "running"),
    )


def _run(script: Script, keys: tuple[str, ...], *arguments: str | int | float) -> Command:
    return ("EVALSHA", script.sha, len(keys), *keys, *arguments)


def _standing(allowance: Allowance, requests_us: int, tokens_us: int, running: int) -> Standing:
    requests, tokens = allowance.requests_per_minute, allowance.tokens_per_minute
    return Standing(
        Level(requests, requests_us / _MICRO) if requests else None,
        Level(tokens, tokens_us / _MICRO) if tokens else None,
        running,
    )


def _fields(pairs: list[bytes]) -> dict[str, str]:
    """Return a hash as Redis lists it: fields and values in turn."""
    return {field.decode(): value.decode() for field, value in zip(pairs[::2], pairs[1::2], strict=True)}


def _by_model(found: Mapping[str, str]) -> ByModel:
    used: ByModel = {}
    for field, text in found.items():
        model, _, name = field.rpartition(":")
        if name not in AMOUNTS:
            continue  # A newer version counts more.
        amounts = used.setdefault(model, Amounts())
        setattr(amounts, name, type(getattr(amounts, name))(float(text)))
    return used
