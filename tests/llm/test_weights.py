"""Targets with weights: whom a call tries first, whom it falls back to, and what the settings may say."""

import random
from collections import Counter
from typing import Any

import pytest
from parley_llm.calls.attempts import Attempts
from parley_llm.calls.routing import Target, build_routing
from parley_llm.config import LLMSettings
from parley_llm.errors import UpstreamUnavailableError
from parley_llm.retry import RetryPolicy
from pydantic import ValidationError

from tests.fakes.openai_upstream import OpenAIUpstream, completion, status
from tests.llm.conftest import run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, ask

CALLS = 20_000


def weighted(*weights: float | None) -> tuple[Target, ...]:
    """Return targets with these weights, at upstreams `up0`, `up1`, …."""
    targets = [{"upstream": f"up{number}", "weight": weight} for number, weight in enumerate(weights)]
    upstreams = {target["upstream"]: {"base_url": "http://x"} for target in targets}
    written = {"upstreams": upstreams, "models": {"chat": {"targets": targets}}}
    return build_routing(LLMSettings.model_validate(written), {}).routes["chat"].targets


def orders(over: tuple[Target, ...], calls: int = CALLS) -> Counter[str]:
    """Count the orders in which so many failing calls try the targets, such as `up1 up0`."""
    chance = random.Random(20).random
    seen: Counter[str] = Counter()
    for _ in range(calls):
        most = len([target for target in over if target.circuit.wait(0) == 0])
        course = Attempts(over, RetryPolicy(), max_attempts=most, deadline=9.0, now=lambda: 0.0, chance=chance)
        attempt = course.first()
        names = [attempt.target.upstream.name]
        while len(names) < most:
            attempt = course.after(UpstreamUnavailableError("x"), attempt)
            assert attempt.wait_s == 0
            names.append(attempt.target.upstream.name)
        seen[" ".join(names)] += 1
    return seen


def share(seen: Counter[str], first: str) -> float:
    """Return the share of calls whose first target was this one."""
    return sum(count for order, count in seen.items() if order.startswith(first)) / seen.total()


def test_the_first_target_is_drawn_by_weight() -> None:
    seen = orders(weighted(70, 20, 10))
    # Three standard deviations of the share of 70 among 20,000 calls are 0.01.
    assert share(seen, "up0") == pytest.approx(0.7, abs=0.015)
    assert share(seen, "up1") == pytest.approx(0.2, abs=0.015)
    assert share(seen, "up2") == pytest.approx(0.1, abs=0.015)


def test_the_fallbacks_are_drawn_likewise() -> None:
    seen = orders(weighted(70, 20, 10))
    behind_first = seen["up0 up1 up2"] / (seen["up0 up1 up2"] + seen["up0 up2 up1"])
    assert behind_first == pytest.approx(20 / 30, abs=0.02)


def test_weights_need_no_particular_sum() -> None:
    assert share(orders(weighted(0.3, 0.1)), "up0") == pytest.approx(0.75, abs=0.015)


def test_a_target_without_weight_among_others_counts_one() -> None:
    assert share(orders(weighted(3, None)), "up0") == pytest.approx(0.75, abs=0.015)


def test_weight_zero_is_only_a_fallback_and_keeps_its_place() -> None:
    assert set(orders(weighted(0, 5, 0), 500)) == {"up1 up0 up2"}


def test_an_open_circuit_does_not_count() -> None:
    targets = weighted(80, 15, 5)
    for _ in range(10):
        targets[0].circuit.failed(0.0)
    seen = orders(targets)
    assert share(seen, "up1") == pytest.approx(0.75, abs=0.015)
    assert share(seen, "up2") == pytest.approx(0.25, abs=0.015)


def test_a_fallback_serves_when_every_weighted_circuit_is_open() -> None:
    targets = weighted(1, 0)
    for _ in range(10):
        targets[0].circuit.failed(0.0)
    assert set(orders(targets, 100)) == {"up1"}


def test_without_weights_the_order_is_as_configured() -> None:
    assert set(orders(weighted(None, None, None), 100)) == {"up0 up1 up2"}


@pytest.mark.parametrize("bad", [[-1, 1], ["much"], [float("inf")], [0, 0]])
def test_impossible_weights_are_refused(bad: list[Any]) -> None:
    with pytest.raises(ValidationError, match=r"models\.chat\.targets|targets"):
        weighted(*bad)


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_calls_are_spread_and_failures_go_to_the_others(front: str) -> None:
    async with OpenAIUpstream(status(503)) as broken, OpenAIUpstream(status(400)) as well:
        settings = settings_for(broken, well, circuit={"failures": 10_000})
        for target in settings["models"]["chat"]["targets"]:
            target["weight"] = 1
        async with run_service(settings) as service:
            seen = [await ask(front, service) for _ in range(24)]
        assert {one.reason for one in seen} == {"INVALID_REQUEST"}, "each call ends at the one that answers"
        assert {one.headers["x-parley-upstream"] for one in seen} == {"up1"}
        # That a fair draw goes one way 24 times has a chance of one in eight million.
        assert 0 < len(broken.requests) < 24
        assert len(well.requests) == 24


async def test_a_caller_that_names_an_upstream_gets_it_whatever_its_weight() -> None:
    async with OpenAIUpstream(completion()) as first, OpenAIUpstream(completion()) as second:
        settings = settings_for(first, second)
        settings["models"]["chat"]["targets"][0]["weight"] = 1_000_000
        settings["models"]["chat"]["targets"][1]["weight"] = 0
        async with run_service(settings) as service:
            assert (await ask("http", service, {"x-parley-upstream": "up1"})).ok
        assert (len(first.requests), len(second.requests)) == (0, 1)
