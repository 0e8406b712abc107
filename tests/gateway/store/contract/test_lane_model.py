"""Any sequence of deliveries, workers, crashes, time and replays: each message ends once, in its lane's order.

Hypothesis plays workers of two processes that keep, lose and misuse leases, and compares the store with a model of a
few lists. The model decides nothing by itself but what the contract leaves no choice about. Where a store serves one
process only, both are the same one.
"""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from parley_gateway.errors import LeaseLostError
from parley_gateway.messages import MessageKind
from parley_gateway.store.base import AcceptOutcome, Lease, Store, StoreLimits
from parley_gateway.store.entries import expired_notice, replayed
from parley_gateway.store.records import DeadLetter, QueuedMessage, reference_of
from parley_gateway.store.redis.store import RedisOptions

from tests.fakes.redis_server import RedisServer
from tests.gateway.store.backends import PATIENT_S, Backend, RedisBackend, SqliteBackend
from tests.gateway.store.building import LEASE_TTL_S, Clock, message, queued

T = TypeVar("T")

FOREVER_S = 1e9
LIMITS = StoreLimits(queue_messages=12, lane_messages=5)
CHATS = st.sampled_from(["a", "b", "c"])
OWNERS = st.sampled_from(["one", "two"])
PROCESSES = st.sampled_from([0, 1])


@dataclass
class ModelMessage:
    item: QueuedMessage
    queued_at: float
    place: int
    """Counts all messages in the order in which they were enqueued."""

    @property
    def due_since(self) -> float:
        return max(self.item.due_at, self.queued_at)


@dataclass
class ModelLane:
    waiting: list[ModelMessage] = field(default_factory=list)
    holder: Lease | None = None
    generation: int = 0

    def in_work(self, now: float) -> bool:
        return self.holder is not None and self.holder.expires_at > now

    def is_ready(self, now: float) -> bool:
        return not self.in_work(now) and bool(self.waiting) and self.waiting[0].due_since <= now


class LaneMachine(RuleBasedStateMachine):
    """The store and a model of it, kept side by side."""

    make_backend: Callable[[Path], Backend]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.backend = self.make_backend(Path(self.folder.name))
        self.clock = Clock()
        self.lanes: dict[str, ModelLane] = {}
        self.leases: list[tuple[Lease, QueuedMessage]] = []
        """Every lease ever given, lost ones included, with the message it was last seen with."""
        self.chats: list[str] = []
        """Where each message was sent."""
        self.places = 0
        self.completed: list[str] = []
        self.dead: dict[str, DeadLetter] = {}
        self.stores = [self.opened()]
        self.stores.append(self.opened() if self.backend.shared else self.stores[0])

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def opened(self) -> Store:
        store = self.backend.create(LIMITS, self.clock)
        self.run(store.open())
        return store

    def lane(self, name: str) -> ModelLane:
        return self.lanes.setdefault(name, ModelLane())

    def enqueue(self, item: QueuedMessage) -> None:
        self.places += 1
        self.lane(item.message.lane).waiting.append(ModelMessage(item, self.clock.now, self.places))

    def teardown(self) -> None:
        for store in dict.fromkeys(self.stores):
            self.run(store.close())
        self.runner.close()
        self.folder.cleanup()

    # What happens.

    @rule(process=PROCESSES, chat=CHATS, delay=st.sampled_from([0, 0, 0, 15, 40]), lives=st.sampled_from([60, 1e9]))
    def deliver(self, process: int, chat: str, delay: float, lives: float) -> None:
        now = self.clock.now
        inbound = message(f"m{len(self.chats)}", chat=chat, sent_at=now, time_to_live_s=lives)
        item = queued(inbound, due_at=now + delay if delay else 0.0)
        receipt = self.run(self.stores[process].accept(item, now=now, dedupe_ttl_s=FOREVER_S))
        if len(self.lane(inbound.lane).waiting) >= LIMITS.lane_messages or self.depth >= LIMITS.queue_messages:
            assert receipt.outcome is AcceptOutcome.FULL
            return
        assert receipt.outcome is AcceptOutcome.ACCEPTED
        self.chats.append(chat)
        self.enqueue(item)

    @precondition(lambda self: self.chats)
    @rule(process=PROCESSES, data=st.data())
    def deliver_again(self, process: int, data: st.DataObject) -> None:
        n = data.draw(st.integers(0, len(self.chats) - 1))
        item = queued(message(f"m{n}", chat=self.chats[n]))
        receipt = self.run(self.stores[process].accept(item, now=self.clock.now, dedupe_ttl_s=FOREVER_S))
        assert receipt.outcome is AcceptOutcome.DUPLICATE

    @rule(seconds=st.sampled_from([0.5, 10, LEASE_TTL_S, 200_000]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_time(seconds)

    @rule(process=PROCESSES, owner=OWNERS)
    def take(self, process: int, owner: str) -> None:
        now = self.clock.now
        ready = {name: lane.waiting[0].due_since for name, lane in self.lanes.items() if lane.is_ready(now)}
        leased = self.run(self.stores[process].lease(owner, now=now, ttl_s=LEASE_TTL_S))
        if leased is None:
            assert not ready
            return
        lease, item = leased
        lane = self.lanes[lease.lane]
        assert ready[lease.lane] == min(ready.values()), "the lane that has been due longest comes first"
        assert item == lane.waiting[0].item
        assert lease.generation > lane.generation
        lane.holder, lane.generation = lease, lease.generation
        self.leases.append((lease, item))

    @precondition(lambda self: self.leases)
    @rule(process=PROCESSES, data=st.data(), delay=st.sampled_from([0, 20]))
    def put_off(self, process: int, data: st.DataObject, delay: float) -> None:
        index, lease, item = self.draw_lease(data)
        changed = replace(item, attempts=item.attempts + 1, due_at=self.clock.now + delay if delay else 0.0)
        if not self.may_write(lease, item):
            with pytest.raises(LeaseLostError):
                self.run(self.stores[process].update(lease, changed))
            return
        self.run(self.stores[process].update(lease, changed))
        self.lanes[lease.lane].waiting[0].item = changed
        self.leases[index] = (lease, changed)

    @precondition(lambda self: self.leases)
    @rule(process=PROCESSES, data=st.data(), fails=st.booleans())
    def finish(self, process: int, data: st.DataObject, fails: bool) -> None:
        index, lease, item = self.draw_lease(data)
        lane, now, store = self.lanes[lease.lane], self.clock.now, self.stores[process]
        dead = DeadLetter(reference_of(f"{item.key} failed"), item, "failed", now) if fails else None
        if not self.may_write(lease, item):
            with pytest.raises(LeaseLostError):
                self.run(store.complete(lease, item, now=now, dead=dead))
            return
        following = self.run(store.complete(lease, item, now=now, dead=dead))
        lane.waiting.pop(0)
        if dead:
            self.dead[dead.reference] = dead
        else:
            self.completed.append(f"{lease.lane} {item.message.message_id}")
        if lane.waiting and lane.waiting[0].due_since <= now:
            assert following == lane.waiting[0].item
            self.leases[index] = (lease, following)
        else:
            assert following is None
            lane.holder = None

    @precondition(lambda self: self.leases)
    @rule(process=PROCESSES, data=st.data())
    def renew(self, process: int, data: st.DataObject) -> None:
        index, lease, item = self.draw_lease(data)
        renewing = self.stores[process].renew(lease, now=self.clock.now, ttl_s=LEASE_TTL_S)
        if not self.holds(lease):
            with pytest.raises(LeaseLostError):
                self.run(renewing)
            return
        renewed = self.run(renewing)
        self.lanes[lease.lane].holder = renewed
        self.leases[index] = (renewed, item)

    @precondition(lambda self: self.leases)
    @rule(process=PROCESSES, data=st.data())
    def give_back(self, process: int, data: st.DataObject) -> None:
        _, lease, _ = self.draw_lease(data)
        self.run(self.stores[process].release(lease))
        if self.holds(lease):
            self.lanes[lease.lane].holder = None

    @rule(process=PROCESSES, owner=OWNERS)
    def drain(self, process: int, owner: str) -> None:
        held = [lane for lane in self.lanes.values() if lane.holder and lane.holder.owner == owner]
        assert self.run(self.stores[process].release_owner(owner)) == len(held)
        for lane in held:
            lane.holder = None

    @rule(process=PROCESSES)
    def expire(self, process: int) -> None:
        now = self.clock.now
        over = [
            (one.item.expires_at, one.place, lane, one)
            for lane in self.lanes.values()
            for n, one in enumerate(lane.waiting)
            if one.item.expires_at <= now and not (n == 0 and lane.in_work(now))
        ]
        assert self.run(self.stores[process].expire(now=now)) == len(over)
        for _, _, lane, one in sorted(over, key=lambda row: row[:2]):
            if lane.waiting[0] is one:
                lane.holder = None
            lane.waiting.remove(one)
            key = one.item.key if one.item.message.kind is MessageKind.QUESTION else f"{one.item.key}#notice"
            dead = DeadLetter(reference_of(key), one.item, "expired", now)
            self.dead[dead.reference] = dead
            if notice := expired_notice(one.item, dead.reference, now=now):
                self.enqueue(notice)

    @precondition(lambda self: self.dead)
    @rule(process=PROCESSES, data=st.data())
    def replay(self, process: int, data: st.DataObject) -> None:
        reference = data.draw(st.sampled_from(sorted(self.dead)))
        assert self.run(self.stores[process].replay(reference, now=self.clock.now))
        dead = self.dead.pop(reference)
        assert dead.item is not None
        self.enqueue(replayed(dead.item, now=self.clock.now))
        assert not self.run(self.stores[process].replay(reference, now=self.clock.now)), "only once"

    @rule(process=PROCESSES)
    def clean(self, process: int) -> None:
        now = self.clock.now
        self.run(self.stores[process].clean(now=now))
        kept_from = now - LIMITS.dead_letter_ttl_s
        self.dead = {reference: dead for reference, dead in self.dead.items() if dead.failed_at > kept_from}

    @rule()
    def restart(self) -> None:
        """Close and open again; afterwards every lease has ended or will end, and nothing is forgotten."""
        for store in dict.fromkeys(self.stores):
            self.run(store.close())
        self.stores = [self.opened()]
        self.stores.append(self.opened() if self.backend.shared else self.stores[0])
        self.clock.pass_time(LEASE_TTL_S)
        for lane in self.lanes.values():
            if lane.holder:
                self.run(self.stores[0].release(lane.holder))
            lane.holder = None

    @precondition(lambda self: self.backend.shared)
    @rule(process=PROCESSES)
    def crash(self, process: int) -> None:
        """A process dies and another one starts: whatever it leased stays leased."""
        self.run(self.backend.crash(self.stores[process]))
        self.stores[process] = self.opened()

    # What is always true.

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        stats = self.run(self.stores[0].stats(now=self.clock.now))
        assert stats.depth == self.depth
        assert stats.leased == sum(lane.in_work(self.clock.now) for lane in self.lanes.values())
        assert stats.dead_letters == len(self.dead)

    @property
    def depth(self) -> int:
        return sum(len(lane.waiting) for lane in self.lanes.values())

    def draw_lease(self, data: st.DataObject) -> tuple[int, Lease, QueuedMessage]:
        index = data.draw(st.integers(0, len(self.leases) - 1))
        return index, *self.leases[index]

    def holds(self, lease: Lease) -> bool:
        holder = self.lanes[lease.lane].holder
        return holder is not None and holder.generation == lease.generation

    def may_write(self, lease: Lease, item: QueuedMessage) -> bool:
        waiting = self.lanes[lease.lane].waiting
        return self.holds(lease) and bool(waiting) and waiting[0].item.key == item.key


def check(make: Callable[[Path], Backend], *, examples: int) -> None:
    class Machine(LaneMachine):
        make_backend = staticmethod(make)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_sqlite_behaves_like_the_model() -> None:
    check(SqliteBackend, examples=40)


def test_redis_behaves_like_the_model(shared_redis: RedisServer) -> None:
    # Two processes see each other's messages at once: how long they may not is another test's business.
    options = RedisOptions(command_s=PATIENT_S, look_s=0)
    check(lambda _: RedisBackend(shared_redis.url, options), examples=15)
