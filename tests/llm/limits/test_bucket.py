"""A limit per minute: what it lets through, in any order of events."""

from hypothesis import given
from hypothesis import strategies as st
from parley_llm.limits.base import Level
from parley_llm.limits.bucket import MinuteBucket


class Clock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_refills_and_may_be_overdrawn() -> None:
    clock = Clock()
    bucket = MinuteBucket(60, clock.now)
    assert bucket.wait(1, clock.now) == 0
    bucket.charge(90, clock.now)
    assert bucket.wait(1, clock.now) == 31
    assert (bucket.level(clock.now).remaining, bucket.level(clock.now).reset_s) == (0, 90)
    clock.now += 31
    assert bucket.wait(1, clock.now) == 0
    assert bucket.level(clock.now).remaining == 1
    clock.now += 10_000
    assert bucket.level(clock.now) == Level(60, 0)
    assert bucket.wait(61, clock.now) == 1


def test_the_whole_limit_is_there_at_once_whatever_its_number() -> None:
    for limit in (1, 3, 7, 11, 60, 997, 10_000):
        bucket = MinuteBucket(limit, 0)
        for left in range(limit, 0, -1):
            assert bucket.level(0).remaining == left
            assert bucket.wait(1, 0) == 0
            bucket.charge(1, 0)
        assert bucket.wait(1, 0) > 0
        assert bucket.level(0).remaining == 0


steps = st.lists(st.floats(0, 90) | st.floats(0, 0.5) | st.just(0.0), max_size=200)


@given(st.integers(1, 50), steps)
def test_no_window_sees_more_than_the_limit_and_the_burst(limit: int, pauses: list[float]) -> None:
    clock = Clock()
    bucket = MinuteBucket(limit, clock.now)
    admitted: list[float] = []
    for pause in pauses:
        clock.now += pause
        wait = bucket.wait(1, clock.now)
        if not wait:
            bucket.charge(1, clock.now)
            admitted.append(clock.now)
        else:
            assert len([when for when in admitted if when > clock.now - 60]) >= 1, "refused without reason"
    for first, begin in enumerate(admitted):
        for last in range(first, len(admitted)):
            window = admitted[last] - begin
            assert last - first + 1 <= limit + window * limit / 60 + 1e-3


@given(st.integers(1, 50), st.lists(st.tuples(st.floats(0, 30), st.integers(0, 300)), min_size=1, max_size=60))
def test_waiting_as_long_as_it_says_is_enough_and_not_too_much(limit: int, events: list[tuple[float, int]]) -> None:
    clock = Clock()
    bucket = MinuteBucket(limit, clock.now)
    for pause, amount in events:
        clock.now += pause
        bucket.charge(amount, clock.now)
    wait = bucket.wait(1, clock.now)
    if wait > 0.01:
        clock.now += wait - 0.005
        assert bucket.wait(1, clock.now) > 0
        clock.now += 0.005
    assert bucket.wait(1, clock.now) < 1e-3
