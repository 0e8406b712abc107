"""One caller's account: lets its calls in, counts what they used, and tells how it stands."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from parley_llm.limits.base import Admission, Allowance, Limits, Observer
from parley_llm.limits.ledger import DAY_S, Ledger, merge
from parley_llm.limits.line import WaitingLine
from parley_llm.limits.local import LocalLimits
from parley_llm.limits.report import UsageReport, Use
from parley_llm.limits.shared import SharedLimits, SharedStore, StoreDownError
from parley_llm.usage import Usage

TELL_S = 1.0

_log = structlog.get_logger("parley_llm.limits")


class Account:
    """What a caller may use and has used."""

    def __init__(
        self,
        caller: str,
        allowance: Allowance,
        local: LocalLimits,
        ledger: Ledger,
        *,
        store: SharedStore | None,
        observer: Observer,
        currency: str,
    ) -> None:
        self.allowance = allowance
        self.local = local
        self.ledger = ledger
        self._caller = caller
        self._store = store
        self._currency = currency
        self._limits: Limits = SharedLimits(caller, allowance, store, local) if store else local
        self._line: WaitingLine | None = None
        if allowance.limited and allowance.max_wait_s > 0:
            self._line = WaitingLine(caller, allowance.max_wait_s, allowance.max_waiting, observer)

    @property
    def may_wait(self) -> bool:
        """Whether a call over a limit waits instead of being refused."""
        return self._line is not None

    async def admit(self, within_s: float) -> Admission:
        """Let a call in that has so many seconds until its deadline; over a limit it waits as the allowance says.

        Raises OverLimitError. Each admission needs one `release`.
        """
        if self._line is None:
            return await self._limits.enter(within_s)
        return await self._line.enter(lambda: self._limits.enter(within_s), within_s)

    def release(self, admission: Admission, model: str, usage: Usage, cost: float) -> None:
        """Count a call that ended: what it used of a model, and its cost in the service's currency."""
        self._limits.leave(admission, usage.input + usage.output)
        self.ledger.add(model, usage, cost)
        if self._line is not None:
            self._line.call_ended()

    async def report(self) -> UsageReport:
        """Return how the account stands; it needs no place within the limits. Without Redis: of this process."""
        ledger, day = self.ledger, self.ledger.today()
        standing, since = self.local.standing(), ledger.since
        ever, today = ledger.used(), ledger.used_today()
        shared = False
        if self._store is not None:
            with contextlib.suppress(StoreDownError):
                reading = await self._store.read(self._caller, self.allowance, day)
                standing, since, ever, today = reading.standing, reading.since, reading.ever, reading.today
                merge(ever, ledger.untold())
                merge(today, ledger.untold(day))
                shared = True
        return UsageReport(
            self.allowance, standing, shared, self._currency, Use(since, ever), Use(float(day * DAY_S), today)
        )


class Accounts:
    """The accounts of all callers, for as long as the process runs: new settings find what was counted before."""

    def __init__(
        self,
        *,
        store: SharedStore | None = None,
        observer: Observer | None = None,
        currency: str = "USD",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._observer = observer or Observer()
        self._currency = currency
        self._clock = clock
        self._monotonic = monotonic
        self._accounts: dict[str, Account] = {}
        self._telling: asyncio.Task[None] | None = None

    def of(self, caller: str, allowance: Allowance) -> Account:
        """Return a caller's account. What is counted goes on; a limit that changed starts anew."""
        before = self._accounts.get(caller)
        if before is not None and before.allowance == allowance:
            return before
        local = LocalLimits(caller, allowance, before.local if before else None, self._monotonic)
        ledger = before.ledger if before else Ledger(shared=self._store is not None, clock=self._clock)
        account = Account(
            caller,
            allowance,
            local,
            ledger,
            store=self._store,
            observer=self._observer,
            currency=self._currency,
        )
        self._accounts[caller] = account
        return account

    async def start(self) -> None:
        """Connect to Redis if it is configured; an unreachable one delays the start by about a second, and no more."""
        if self._store is not None:
            await self._store.link.start()
            self._telling = asyncio.create_task(self._tell_on(self._store), name="limits-tell-use")

    async def stop(self) -> None:
        """Tell Redis what it doesn't know yet, and disconnect."""
        if self._store is None or self._telling is None:
            return
        self._telling.cancel()
        await asyncio.gather(self._telling, return_exceptions=True)
        await self._tell(self._store)
        await self._store.link.stop()
        lost = sum(sums.requests for one in self._accounts.values() for sums in one.ledger.untold().values())
        if lost:
            _log.warning("usage_not_stored", requests=lost)

    async def _tell_on(self, store: SharedStore) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            await self._tell(store)

    async def _tell(self, store: SharedStore) -> None:
        await store.tell_use([(name, account.ledger) for name, account in list(self._accounts.items())])


def open_accounts(store_url: str, currency: str, observer: Observer) -> Accounts:
    """Make the accounts that the settings ask for: in Redis, or of this process when the URL is empty."""
    if not store_url:
        return Accounts(observer=observer, currency=currency)
    from parley_common.redis_address import parse_store

    from parley_llm.limits.link import RedisLink

    link = RedisLink(parse_store(store_url), observer.store_up)
    return Accounts(store=SharedStore(link), observer=observer, currency=currency)
