"""Looks at waiting messages, and the ramp after a model was out of reach: in virtual time."""

import heapq
from contextlib import ExitStack
from itertools import pairwise

from parley_gateway.pacing import FIRST, LOOK_AGAIN_S, LOOKS_PER_S, Pacer, Ramp, Ramps

from tests.fakes.gateway_parts import NOW, FakeClock


def test_looks_are_spread() -> None:
    clock = FakeClock()
    pacer = Pacer(clock)
    looks = [pacer.next_look() for _ in range(500)]
    assert looks[0] == NOW + LOOK_AGAIN_S
    for first, later in zip(looks, looks[100:], strict=False):
        assert later - first > 99 / LOOKS_PER_S
    clock.now += 60
    assert pacer.next_look() == NOW + 60 + LOOK_AGAIN_S


def test_healthy_model_has_no_limit_of_its_own() -> None:
    ramp = Ramp("chat", 50, FakeClock())
    with ExitStack() as asking:
        for _ in range(50):
            assert ramp.admits(new=False)
            asking.enter_context(ramp.asking())
        assert not ramp.admits(new=True)
    assert ramp.state() is None
    for reason in ("RATE_LIMITED", "UPSTREAM_UNAVAILABLE", "CONTENT_FILTERED"):
        ramp.failed(reason)
    assert ramp.state() is None


def test_new_questions_all_hear_that_the_circuits_are_open() -> None:
    clock = FakeClock()
    ramp = Ramp("chat", 50, clock)
    ramp.failed("CIRCUIT_OPEN")
    with ExitStack() as asking:
        for _ in range(FIRST):
            asking.enter_context(ramp.asking())
        assert not ramp.admits(new=False)
        assert ramp.admits(new=True)
        ramp.failed("UNAVAILABLE")  # The service itself is away: nobody would refuse at once.
        assert not ramp.admits(new=True)
        state = ramp.state()
        assert state is not None
        assert (state.model, state.reason, state.since, state.answering, state.limit, state.asking) == (
            "chat", "UNAVAILABLE", NOW, False, FIRST, FIRST,
        )  # fmt: skip


def test_backlog_drains_on_a_ramp_that_doubles_with_each_answer_time() -> None:
    """300 questions are due when the model is back, which answers each in 10 s: how many are with it, and when?"""
    clock, most, answer_s = FakeClock(0.0), 64, 10.0
    ramp, pacer = Ramp("chat", most, clock), Pacer(clock)
    ramp.failed("CIRCUIT_OPEN")
    due = [(0.0, number) for number in range(300)]
    running: list[tuple[float, int, ExitStack]] = []
    peaks: dict[int, int] = {}
    answered = 0
    while due or running:
        next_end = running[0][0] if running else float("inf")
        if due and due[0][0] <= next_end:
            clock.now, number = heapq.heappop(due)
            clock.now = max(clock.now, 0.0)
            if ramp.admits(new=False):
                block = ExitStack()
                block.enter_context(ramp.asking())
                heapq.heappush(running, (clock.now + answer_s, number, block))
            else:
                heapq.heappush(due, (pacer.next_look(), number))
        else:
            clock.now, _, block = heapq.heappop(running)
            ramp.answered()
            block.close()
            answered += 1
        step = int(clock.now // answer_s)
        peaks[step] = max(peaks.get(step, 0), len(running))
    assert answered == 300
    assert peaks[0] == FIRST
    steps = [peaks[step] for step in sorted(peaks)]
    climbing = steps[: steps.index(max(steps)) + 1]
    assert max(steps) == most
    assert climbing == sorted(climbing)
    assert all(later <= 2 * earlier + 1 for earlier, later in pairwise(climbing)), steps
    assert ramp.state() is None


def test_ramp_begins_again_when_the_model_goes_away_again() -> None:
    clock = FakeClock()
    ramp = Ramp("chat", 50, clock)
    ramp.failed("CIRCUIT_OPEN")
    for _ in range(20):
        ramp.answered()
    state = ramp.state()
    assert state is not None
    assert (state.limit, state.answering) == (FIRST + 20, True)
    clock.now += 60
    ramp.failed("CIRCUIT_OPEN")
    state = ramp.state()
    assert state is not None
    assert (state.limit, state.since) == (FIRST, NOW + 60)


def test_each_model_has_a_ramp_of_its_own() -> None:
    ramps = Ramps(50, FakeClock())
    ramps.of("broken").failed("CIRCUIT_OPEN")
    assert [state.model for state in ramps.states()] == ["broken"]
    assert ramps.of("chat").state() is None
    assert ramps.of("broken") is ramps.of("broken")
