"""The course of a call over its targets, and its parts: back-off, budget, circuit, keys. No clock, no network."""

import pytest
from parley_llm.calls.attempts import Attempts
from parley_llm.calls.routing import Target, build_routing
from parley_llm.config import LLMSettings
from parley_llm.errors import (
    CircuitOpenError,
    ContentFilteredError,
    InvalidRequestError,
    LLMError,
    ModelNotFoundError,
    UpstreamAuthError,
    UpstreamProtocolError,
    UpstreamQuotaError,
    UpstreamRateLimitError,
    UpstreamStatusError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from parley_llm.retry import Circuit, RetryBudget, RetryPolicy
from parley_llm.upstream.keys import APIKey, KeyRing


def targets(count: int = 1, keys: int = 1) -> tuple[Target, ...]:
    api_keys = [f"k{number}" for number in range(keys)]
    written = {
        "upstreams": {f"up{number}": {"base_url": "http://x", "api_keys": api_keys} for number in range(count)},
        "models": {"chat": {"targets": [{"upstream": f"up{number}"} for number in range(count)]}},
    }
    return build_routing(LLMSettings.model_validate(written), {}).routes["chat"].targets


def attempts(
    over: tuple[Target, ...], now: list[float], chance: float = 0.5, most: int = 3, **policy: float
) -> Attempts:
    return Attempts(
        over,
        RetryPolicy(**policy),  # type: ignore[arg-type]
        max_attempts=most,
        deadline=100.0,
        now=lambda: now[0],
        chance=lambda: chance,
    )


def test_waits_grow_are_random_and_bounded() -> None:
    policy = RetryPolicy(backoff_initial=1, backoff_max=5)
    assert [policy.backoff(tries, 1.0) for tries in range(1, 5)] == [1, 2, 4, 5]
    assert policy.backoff(3, 0.0) == 0


def test_one_target_is_tried_again_after_its_wait() -> None:
    course = attempts(targets(), [0.0])
    attempt = course.first()
    assert attempt.wait_s == 0
    attempt = course.after(UpstreamUnavailableError("x"), attempt)
    assert attempt.wait_s == 0.25
    attempt = course.after(UpstreamRateLimitError("x", retry_after_s=4), attempt)
    assert attempt.wait_s == pytest.approx(4.2)
    with pytest.raises(UpstreamUnavailableError):
        course.after(UpstreamUnavailableError("x"), attempt)


def test_targets_are_tried_in_order_before_any_wait() -> None:
    first, second = targets(2)
    course = attempts((first, second), [0.0], most=4)
    order = [course.first()]
    while len(order) < 4:
        order += [course.after(UpstreamUnavailableError("x"), order[-1])]
    assert [one.target for one in order] == [first, second, first, second]
    assert [one.wait_s > 0 for one in order] == [False, False, True, True]


def test_a_wait_beyond_the_deadline_ends_the_call() -> None:
    course = attempts(targets(), [98.0])
    attempt = course.first()
    with pytest.raises(UpstreamRateLimitError) as caught:
        course.after(UpstreamRateLimitError("x", retry_after_s=5), attempt)
    assert caught.value.retry_after_s == 5


def test_an_error_that_may_pass_is_reported_rather_than_one_that_lasts() -> None:
    course = attempts(targets(2), [0.0])
    attempt = course.after(UpstreamRateLimitError("x", retry_after_s=50), course.first())
    with pytest.raises(UpstreamRateLimitError):
        course.after(ModelNotFoundError("x"), attempt)


def test_open_circuits_are_passed_over() -> None:
    first, second = targets(2)
    for _ in range(10):
        first.circuit.failed(0.0)
    assert attempts((first, second), [0.0]).first().target is second
    for _ in range(10):
        second.circuit.failed(0.0)
    with pytest.raises(CircuitOpenError) as caught:
        attempts((first, second), [4.0]).first()
    assert caught.value.retry_after_s == 6


def test_a_circuit_opens_lets_one_call_through_and_closes() -> None:
    circuit = Circuit(2, 10)
    circuit.failed(0)
    assert circuit.state(0) == Circuit.CLOSED
    circuit.failed(0)
    assert (circuit.state(5), circuit.wait(5)) == (Circuit.OPEN, 5)
    assert circuit.state(10) == Circuit.HALF_OPEN
    circuit.enter(10)
    assert circuit.state(11) == Circuit.OPEN, "one trial call at a time"
    circuit.succeeded()
    assert circuit.state(11) == Circuit.CLOSED


def test_the_budget_has_a_reserve_and_earns_a_share() -> None:
    budget = RetryBudget()
    assert [budget.spend(0.5) for _ in range(11)] == [True] * 10 + [False]
    budget.earn(0.5)
    assert not budget.spend(0.5)
    budget.earn(0.5)
    assert budget.spend(0.5)
    assert not RetryBudget().spend(0)


def test_keys_go_in_turn_and_refused_ones_last() -> None:
    keys = [APIKey(f"k{number}", b"") for number in range(3)]
    ring = KeyRing(keys)
    assert {ring.choose(0).secret for _ in range(3)} == {"k0", "k1", "k2"}
    ring.set_aside(keys[1], 0)
    assert {ring.choose(1).secret for _ in range(6)} == {"k0", "k2"}
    ring.set_aside(keys[0], 5)
    ring.set_aside(keys[2], 6)
    assert ring.choose(7) is keys[1], "when all were refused, the one refused longest ago"
    assert "k1" in {ring.choose(601).secret for _ in range(3)}


def test_a_failure_at_another_upstream_costs_no_budget_there() -> None:
    first, second = targets(2)
    for _ in range(100):
        course = attempts((first, second), [0.0])
        assert course.after(UpstreamUnavailableError("x"), course.first()).target is second


def test_without_budget_a_call_still_goes_on_to_another_upstream_but_is_not_repeated_there() -> None:
    first, second = targets(2)
    course = attempts((first, second), [0.0], budget=0)
    attempt = course.after(UpstreamUnavailableError("first"), course.first())
    assert attempt.target is second
    with pytest.raises(UpstreamUnavailableError):
        course.after(UpstreamUnavailableError("second"), attempt)


@pytest.mark.parametrize("error", [UpstreamStatusError("501"), UpstreamProtocolError("html"), UpstreamTimeoutError("")])
def test_a_target_that_is_of_no_use_now_is_left_for_the_next(error: LLMError) -> None:
    first, second = targets(2)
    course = attempts((first, second), [0.0], most=9)
    attempt = course.after(error, course.first())
    assert attempt.target is second
    with pytest.raises(type(error)):
        course.after(error, attempt)


@pytest.mark.parametrize("error", [ContentFilteredError("no"), InvalidRequestError("no")])
def test_what_is_the_requests_own_fault_goes_nowhere_else(error: LLMError) -> None:
    course = attempts(targets(2), [0.0])
    with pytest.raises(type(error)):
        course.after(error, course.first())


def test_refused_keys_are_set_aside_for_other_calls_too() -> None:
    (target,) = targets(keys=3)
    course = attempts((target,), [0.0], most=9)
    attempt = course.first()
    seen = [attempt.key]
    for error in (UpstreamAuthError("401"), UpstreamQuotaError("402")):
        attempt = course.after(error, attempt)
        seen.append(attempt.key)
    assert len(set(seen)) == 3
    assert {attempts((target,), [1.0]).first().key for _ in range(6)} == {seen[2]}
    with pytest.raises(UpstreamAuthError):
        course.after(UpstreamAuthError("403"), attempt)


@pytest.mark.parametrize(("at", "retried"), [(2.9, True), (3.1, False)])
def test_failures_that_came_late_are_not_repeated(at: float, retried: bool) -> None:
    now = [0.0]
    course = attempts(targets(2), now, late=3.0)
    attempt = course.first()
    now[0] = at
    if retried:
        assert course.after(UpstreamUnavailableError("x"), attempt).wait_s == 0
    else:
        with pytest.raises(UpstreamUnavailableError):
            course.after(UpstreamUnavailableError("x"), attempt)


def test_late_is_counted_from_the_attempt_not_from_the_wait_before_it() -> None:
    now = [0.0]
    course = attempts(targets(), now, late=3.0)
    attempt = course.after(UpstreamRateLimitError("x", retry_after_s=10), course.first())
    now[0] = attempt.wait_s
    attempt = course.resumed(attempt)
    now[0] += 2.9
    assert course.after(UpstreamUnavailableError("x"), attempt).wait_s > 0


def test_a_wait_that_ends_at_an_open_circuit_goes_elsewhere_or_ends_the_call() -> None:
    now = [0.0]
    first, second = targets(2)
    course = attempts((first, second), now, most=9)
    attempt = course.after(UpstreamUnavailableError("x"), course.first())
    attempt = course.after(UpstreamUnavailableError("x"), attempt)
    assert (attempt.target, attempt.wait_s) == (first, 0.25)
    for _ in range(10):
        first.circuit.failed(0.0)
    now[0] = 0.25
    other = course.resumed(attempt)
    assert (other.target, other.wait_s, course.count) == (second, 0, 3)
    for _ in range(10):
        second.circuit.failed(now[0])
    with pytest.raises(UpstreamUnavailableError):
        course.after(UpstreamUnavailableError("x"), other)


def test_old_failures_do_not_keep_a_circuit_open() -> None:
    circuit = Circuit(2, 10)
    for moment in (0, 0, 5, 9.9):
        circuit.failed(moment)
    assert circuit.state(10) == Circuit.HALF_OPEN
    circuit.enter(10)
    circuit.failed(12)
    assert circuit.state(19.9) == Circuit.OPEN
    assert circuit.state(20) == Circuit.HALF_OPEN
