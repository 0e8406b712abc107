"""Any sequence of deliveries, workers, crashes and time: each message is completed once, in its lane's order.

Hypothesis plays workers that keep, lose and misuse leases against the store, and compares it with a model of a few
lists. The model decides nothing by itself but what the contract leaves no choice about.
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
from parley_gateway.store.base import AcceptOutcome, Lease, Store, StoreLimits
from parley_gateway.store.records import QueuedMessage

from tests.gateway.store.backends import BACKENDS, Backend
from tests.gateway.store.building import LEASE_TTL_S, Clock, message, queued

T = TypeVar("T")

FOREVER_S = 1e9
LIMITS = StoreLimits(queue_messages=12, lane_messages=5)
CHATS = st.sampled_from(["a", "b", "c"])
OWNERS = st.sampled_from(["one", "two"])


@dataclass
class ModelMessage:
    item: QueuedMessage
    queued_at: float

    @property
    def due_since(self) -> float:
        return max(self.item.due_at, self.queued_at)


@dataclass
class ModelLane:
    waiting: list[ModelMessage] = field(default_factory=list)
    holder: Lease | None = None
    generation: int = 0


class LaneMachine(RuleBasedStateMachine):
    """The store and a model of it, kept side by side."""

    make_backend: Callable[[Path], Backend]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.backend = self.make_backend(Path(self.folder.name))
        self.clock = Clock()
        self.lanes = {chat: ModelLane() for chat in "abc"}
        self.leases: list[tuple[str, Lease, QueuedMessage]] = []
        """Every lease ever given, lost ones included, with the message it was last seen with."""
        self.sent = 0
        self.completed: list[str] = []
        self.store = self.opened()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def opened(self) -> Store:
        store = self.backend.create(LIMITS, self.clock)
        self.run(store.open())
        return store

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    # What happens.

    @rule(chat=CHATS, delay=st.sampled_from([0, 0, 0, 15, 40]))
    def deliver(self, chat: str, delay: float) -> None:
        lane = self.lanes[chat]
        item = queued(message(f"m{self.sent}", chat=chat), due_at=self.clock.now + delay if delay else 0.0)
        receipt = self.run(self.store.accept(item, now=self.clock.now, dedupe_ttl_s=FOREVER_S))
        depth = sum(len(one.waiting) for one in self.lanes.values())
        if len(lane.waiting) == LIMITS.lane_messages or depth == LIMITS.queue_messages:
            assert receipt.outcome is AcceptOutcome.FULL
            return
        assert receipt.outcome is AcceptOutcome.ACCEPTED
        self.sent += 1
        lane.waiting.append(ModelMessage(item, self.clock.now))

    @precondition(lambda self: self.sent > 0)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        n = data.draw(st.integers(0, self.sent - 1))
        for chat in "abc":
            known = [one for one in self.lanes[chat].waiting if one.item.message.message_id == f"m{n}"]
            if known or f"{chat}/m{n}" in self.completed:
                item = queued(message(f"m{n}", chat=chat))
                receipt = self.run(self.store.accept(item, now=self.clock.now, dedupe_ttl_s=FOREVER_S))
                assert receipt.outcome is AcceptOutcome.DUPLICATE

    @rule(seconds=st.sampled_from([0.5, 10, LEASE_TTL_S, 200_000]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_time(seconds)

    @rule(owner=OWNERS)
    def take(self, owner: str) -> None:
        now = self.clock.now
        ready = {chat: lane.waiting[0].due_since for chat, lane in self.lanes.items() if self.is_ready(lane, now)}
        leased = self.run(self.store.lease(owner, now=now, ttl_s=LEASE_TTL_S))
        if leased is None:
            assert not ready
            return
        lease, item = leased
        chat = item.message.conversation.chat
        lane = self.lanes[chat]
        assert ready[chat] == min(ready.values()), "the lane that has been due longest comes first"
        assert item == lane.waiting[0].item
        assert lease.generation > lane.generation
        lane.holder, lane.generation = lease, lease.generation
        self.leases.append((chat, lease, item))

    def is_ready(self, lane: ModelLane, now: float) -> bool:
        free = lane.holder is None or lane.holder.expires_at <= now
        return free and bool(lane.waiting) and lane.waiting[0].due_since <= now

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), delay=st.sampled_from([0, 20]))
    def put_off(self, data: st.DataObject, delay: float) -> None:
        index, chat, lease, item = self.draw_lease(data)
        changed = replace(item, attempts=item.attempts + 1, due_at=self.clock.now + delay if delay else 0.0)
        if not self.may_write(chat, lease, item):
            with pytest.raises(LeaseLostError):
                self.run(self.store.update(lease, changed))
            return
        self.run(self.store.update(lease, changed))
        self.lanes[chat].waiting[0].item = changed
        self.leases[index] = (chat, lease, changed)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        index, chat, lease, item = self.draw_lease(data)
        lane, now = self.lanes[chat], self.clock.now
        if not self.may_write(chat, lease, item):
            with pytest.raises(LeaseLostError):
                self.run(self.store.complete(lease, item, now=now))
            return
        following = self.run(self.store.complete(lease, item, now=now))
        self.completed.append(f"{chat}/{lane.waiting.pop(0).item.message.message_id}")
        if lane.waiting and lane.waiting[0].due_since <= now:
            assert following == lane.waiting[0].item
            self.leases[index] = (chat, lease, following)
        else:
            assert following is None
            lane.holder = None

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        index, chat, lease, item = self.draw_lease(data)
        if not self.holds(chat, lease):
            with pytest.raises(LeaseLostError):
                self.run(self.store.renew(lease, now=self.clock.now, ttl_s=LEASE_TTL_S))
            return
        renewed = self.run(self.store.renew(lease, now=self.clock.now, ttl_s=LEASE_TTL_S))
        self.lanes[chat].holder = renewed
        self.leases[index] = (chat, renewed, item)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        _, chat, lease, _ = self.draw_lease(data)
        self.run(self.store.release(lease))
        if self.holds(chat, lease):
            self.lanes[chat].holder = None

    @rule(owner=OWNERS)
    def drain(self, owner: str) -> None:
        held = [lane for lane in self.lanes.values() if lane.holder and lane.holder.owner == owner]
        assert self.run(self.store.release_owner(owner)) == len(held)
        for lane in held:
            lane.holder = None

    @rule()
    def clean(self) -> None:
        self.run(self.store.clean(now=self.clock.now))

    @rule()
    def restart(self) -> None:
        """Close and open again; afterwards every lease has ended or will end, and nothing is forgotten."""
        self.run(self.store.close())
        self.store = self.opened()
        self.clock.pass_time(LEASE_TTL_S)
        for lane in self.lanes.values():
            if lane.holder:
                self.run(self.store.release(lane.holder))
            lane.holder = None

    # What is always true.

    @invariant()
    def messages_are_completed_once_and_in_order(self) -> None:
        assert len(self.completed) == len(set(self.completed))
        for chat in "abc":
            numbers = [int(one[3:]) for one in self.completed if one.startswith(chat)]
            assert numbers == sorted(numbers)

    @invariant()
    def nothing_is_lost(self) -> None:
        stats = self.run(self.store.stats(now=self.clock.now))
        assert stats.depth == sum(len(lane.waiting) for lane in self.lanes.values()) == self.sent - len(self.completed)

    def draw_lease(self, data: st.DataObject) -> tuple[int, str, Lease, QueuedMessage]:
        index = data.draw(st.integers(0, len(self.leases) - 1))
        return index, *self.leases[index]

    def holds(self, chat: str, lease: Lease) -> bool:
        holder = self.lanes[chat].holder
        return holder is not None and holder.generation == lease.generation

    def may_write(self, chat: str, lease: Lease, item: QueuedMessage) -> bool:
        waiting = self.lanes[chat].waiting
        return self.holds(chat, lease) and bool(waiting) and waiting[0].item.key == item.key


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_lanes_behave_like_the_model(name: str) -> None:
    class Machine(LaneMachine):
        make_backend = staticmethod(BACKENDS[name])

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
