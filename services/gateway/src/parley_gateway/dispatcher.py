"""Leases lanes and works on them: many lanes at once, each in order, a lease kept alive while its work goes on."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from parley_gateway.errors import LeaseLostError, StoreUnavailableError
from parley_gateway.store.base import Lease, Store
from parley_gateway.store.records import QueuedMessage

IDLE_WAIT_S = 1.0
STORE_WAIT_S = 1.0

Work = Callable[[Lease, QueuedMessage], Awaitable[QueuedMessage | None]]
"""Works on the head of a leased lane; returns the lane's next message, or None when the lane is released."""

log = structlog.get_logger("parley.dispatcher")


class Dispatcher:
    """Gives lanes to tasks of this process."""

    def __init__(
        self, store: Store, work: Work, *, owner: str, lanes: int, lease_s: float, clock: Callable[[], float]
    ) -> None:
        """`lanes` bounds the work at the same time, `lease_s` how long a dead process keeps a lane."""
        self._store = store
        self._work = work
        self._owner = owner
        self._slots = asyncio.Semaphore(lanes)
        self._lease_s = lease_s
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming: asyncio.Task[None] | None = None
        self._draining = False

    def start(self) -> None:
        """Begin to claim lanes."""
        self._claiming = asyncio.create_task(self._claim(), name="claim-lanes")

    async def stop_claiming(self) -> None:
        """Take no further lanes, and of each lane in work no further message: another process can go on with it."""
        self._draining = True
        if self._claiming is not None:
            self._claiming.cancel()
            await asyncio.gather(self._claiming, return_exceptions=True)

    async def stop(self, grace_s: float) -> None:
        """Take no further lanes, let the work at hand finish within the time, then cut it and hand the lanes over."""
        await self.stop_claiming()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        self.hurry()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._store.release_owner(self._owner)
        except StoreUnavailableError as exc:
            log.warning("leases_not_handed_over", error=str(exc))

    def hurry(self) -> None:
        """Cut the work at hand."""
        for task in self._tasks:
            task.cancel()

    async def _claim(self) -> None:
        while True:
            await self._slots.acquire()
            leased = None
            try:
                leased = await self._lease()
            except StoreUnavailableError as exc:
                log.warning("store_unavailable", error=str(exc))
                await asyncio.sleep(STORE_WAIT_S)
            finally:
                if leased is None:
                    self._slots.release()
            if leased is None:
                await self._store.wait_ready(IDLE_WAIT_S)
                continue
            task = asyncio.create_task(self._run_lane(*leased), name="lane")
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def _lease(self) -> tuple[Lease, QueuedMessage] | None:
        """Lease a lane; when the claiming is cancelled meanwhile, the lane goes back at once."""
        leasing = asyncio.create_task(
            self._store.lease(self._owner, now=self._clock(), ttl_s=self._lease_s), name="lease-lane"
        )
        try:
            return await asyncio.shield(leasing)
        except asyncio.CancelledError:
            try:
                if leased := await leasing:
                    await self._store.release(leased[0])
            except StoreUnavailableError as exc:
                log.warning("lease_not_handed_over", error=str(exc))
            raise

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _run_lane(self, lease: Lease, item: QueuedMessage) -> None:
        """Work through a lane until it is empty, not due, or somebody else's."""
        work = asyncio.current_task()
        assert work is not None  # noqa: S101 - a coroutine always runs in a task
        keeper = asyncio.create_task(self._keep(lease, work), name="keep-lease")
        following: QueuedMessage | None = item
        try:
            while following is not None:
                following = await self._work(lease, following)
                if following is not None and self._draining:
                    await self._store.release(lease)
                    following = None
        except LeaseLostError:
            log.warning("lease_lost", generation=lease.generation)
        except StoreUnavailableError as exc:
            log.warning("store_unavailable", error=str(exc))
        except Exception:
            # A bug met one message: it stays the head of its lane, its attempts are counted, the others go on.
            log.exception("work_failed")
            await self._put_off(lease)
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _put_off(self, lease: Lease) -> None:
        await asyncio.sleep(STORE_WAIT_S)
        try:
            await self._store.release(lease)
        except StoreUnavailableError as exc:
            log.warning("store_unavailable", error=str(exc))

    async def _keep(self, lease: Lease, work: asyncio.Task[None]) -> None:
        """Renew a lease while its work goes on; cut the work when the lease is lost."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                lease = await self._store.renew(lease, now=self._clock(), ttl_s=self._lease_s)
            except LeaseLostError:
                log.warning("lease_lost", generation=lease.generation)
                work.cancel()
                return
            except StoreUnavailableError as exc:
                log.warning("store_unavailable", error=str(exc))
