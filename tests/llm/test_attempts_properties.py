"""What holds for the courses of any calls over any targets: limits, waits, budgets, circuits. In virtual time."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from parley_llm.calls.attempts import Attempts, Next
from parley_llm.calls.routing import Target
from parley_llm.errors import (
    ContentFilteredError,
    LLMError,
    ModelNotFoundError,
    StreamBrokenError,
    UpstreamAuthError,
    UpstreamRateLimitError,
    UpstreamStatusError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from parley_llm.retry import BUDGET_RESERVE, RetryPolicy

from tests.llm.test_attempts import targets


@dataclass
class Failure:
    """How an attempt fails: with what, after how long."""

    make: Callable[[], LLMError]
    took: float


@st.composite
def failures(draw: st.DrawFn) -> Failure:
    """Any failure an upstream may cause, most of them such that the call may go on."""
    asked = draw(st.none() | st.floats(0, 60))
    kind = draw(
        st.sampled_from(
            [
                UpstreamUnavailableError,
                UpstreamUnavailableError,
                UpstreamRateLimitError,
                StreamBrokenError,
                UpstreamTimeoutError,
                UpstreamAuthError,
                UpstreamStatusError,
                ModelNotFoundError,
                ContentFilteredError,
            ]
        )
    )
    return Failure(lambda: kind("x", retry_after_s=asked if kind.retryable else None), draw(st.floats(0, 20)))


@dataclass
class Trial:
    """One attempt of a simulated call, and how it ended."""

    target: Target
    at: float
    after_s: float
    ended: float = 0.0
    error: LLMError | None = None


@dataclass
class World:
    """Targets and a clock that only this test moves."""

    over: tuple[Target, ...]
    policy: RetryPolicy
    now: float = 0.0
    reached: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)

    def call(self, script: Iterator[Failure], most: int, deadline: float, chance: Callable[[], float]) -> list[Trial]:
        """Carry out one call as the core does; return its attempts."""
        course = Attempts(
            self.over, self.policy, max_attempts=most, deadline=deadline, now=lambda: self.now, chance=chance
        )
        trials: list[Trial] = []
        seen: set[str] = set()
        try:
            attempt = course.first()
            while True:
                if attempt.wait_s > 0:
                    self.now += attempt.wait_s
                    attempt = course.resumed(attempt)
                name = attempt.target.upstream.name
                counts = self.repeated if name in seen else self.reached
                counts[name] = counts.get(name, 0) + 1
                seen.add(name)
                trial = Trial(attempt.target, self.now, attempt.wait_s)
                trials.append(trial)
                failure = next(script, None)
                if failure is None:
                    attempt.target.circuit.succeeded()
                    return trials
                self.now = min(self.now + failure.took, deadline)
                trial.error, trial.ended = failure.make(), self.now
                attempt.target.circuit.failed(self.now)
                attempt = course.after(trial.error, attempt)
        except LLMError:
            return trials
        finally:
            assert course.count == len(trials)


@given(
    scripts=st.lists(st.lists(failures(), max_size=12), min_size=1, max_size=12),
    count=st.integers(1, 3),
    keys=st.integers(1, 3),
    most=st.integers(1, 8),
    budget=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_no_course_of_a_call_breaks_its_limits(
    scripts: list[list[Failure]], count: int, keys: int, most: int, budget: float, seed: int
) -> None:
    world = World(targets(count, keys), RetryPolicy(budget=budget))
    chance = random.Random(seed).random
    for script in scripts:
        deadline = world.now + 60
        trials = world.call(iter(script), most, deadline, chance)
        assert len(trials) <= most
        for number, trial in enumerate(trials):
            assert trial.at < deadline
            for earlier in trials[:number]:
                if earlier.target is not trial.target:
                    continue
                assert not isinstance(earlier.error, UpstreamTimeoutError), "a silent upstream was tried again"
                asked = earlier.error.retry_after_s if earlier.error else None
                assert trial.at >= earlier.ended + (asked or 0), "Retry-After was not waited for"
            if number:
                assert not isinstance(trials[number - 1].error, ContentFilteredError)
        world.now += 1
    for name, repeated in world.repeated.items():
        assert repeated <= BUDGET_RESERVE + budget * world.reached[name] + 1e-6
        assert repeated == 0 or budget > 0


class Traffic:
    """Calls that come at a steady rate to a target that is down for a while; each attempt takes about a second."""

    def __init__(self, target: Target, down: float, up: float) -> None:
        self.target = target
        self.down, self.up = down, up
        self.now = 0.0
        self.sent: list[float] = []
        self.answered: list[float] = []
        self.refused: list[float] = []
        self._chance = random.Random(7).random
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def run(self, rate: float, seconds: float) -> None:
        """Play it all."""
        for number in range(int(rate * seconds)):
            self._at(number / rate, self._arrive)
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            try:
                what()
            except LLMError:
                self.refused.append(self.now)

    def _at(self, moment: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), what))

    def _arrive(self) -> None:
        course = Attempts(
            (self.target,),
            RetryPolicy(),
            max_attempts=3,
            deadline=self.now + 60,
            now=lambda: self.now,
            chance=self._chance,
        )
        self._send(course, course.first())

    def _send(self, course: Attempts, attempt: Next) -> None:
        self.sent.append(self.now)
        works = not self.down <= self.now < self.up
        self._at(self.now + 0.5 + self._chance(), lambda: self._end(course, attempt, works))

    def _end(self, course: Attempts, attempt: Next, works: bool) -> None:
        if works:
            self.target.circuit.succeeded()
            self.answered.append(self.now)
            return
        self.target.circuit.failed(self.now)
        following = course.after(UpstreamUnavailableError("down"), attempt)
        self._at(self.now + following.wait_s, lambda: self._send(course, course.resumed(following)))


def test_a_circuit_closes_under_live_traffic_after_recovery() -> None:
    traffic = Traffic(targets()[0], down=20.0, up=70.0)
    traffic.run(rate=20, seconds=120)
    opened = next(moment for moment in traffic.refused if moment > traffic.down)
    probes = [moment for moment in traffic.sent if opened + 2 < moment < traffic.up]
    assert len(probes) >= 3
    for earlier, later in itertools.pairwise(probes):
        assert later - earlier >= 9.99, "one probe at a time"
    closed = next(moment for moment in traffic.answered if moment > traffic.up)
    assert closed <= traffic.up + 10 + 1.5
    assert not [moment for moment in traffic.refused if moment > closed + 2]
    assert len([moment for moment in traffic.answered if moment > closed]) >= 20 * (119 - closed)
