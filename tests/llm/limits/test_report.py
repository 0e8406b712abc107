"""What a caller is told about itself."""

import json

from parley_llm.limits.base import Allowance, Level, Standing
from parley_llm.limits.ledger import Amounts
from parley_llm.limits.report import UsageReport, Use, me

CHAT = Amounts(requests=2, input=30, output=12, cached=5, reasoning=4, cost=0.1 + 0.2)
DRAW = Amounts(requests=1, images=3, seconds=1.23456, characters=9, cost=0.12)


def told(sums: Amounts, cost: float) -> dict[str, object]:
    return {
        "requests": sums.requests,
        "tokens": {"input": sums.input, "output": sums.output, "cached": sums.cached, "reasoning": sums.reasoning},
        "images": sums.images,
        "seconds": round(sums.seconds, 3),
        "characters": sums.characters,
        "cost": cost,
    }


def test_everything_is_told() -> None:
    report = UsageReport(
        Allowance(60, 1000, 4),
        Standing(Level(60, 1.00049), Level(1000, 66), 3),
        shared=True,
        currency="EUR",
        ever=Use(1_800_000_000.7, {"draw": DRAW, "chat": CHAT}),
        today=Use(1_800_057_600, {"chat": CHAT}),
    )
    answer = me("crm", ["chat", "draw"], report)
    assert json.loads(json.dumps(answer)) == {
        "name": "crm",
        "models": ["chat", "draw"],
        "shared": True,
        "limits": {
            "requests_per_minute": {"limit": 60, "remaining": 58, "reset_s": 1.0},
            "tokens_per_minute": {"limit": 1000, "remaining": 0, "reset_s": 66},
            "concurrency": {"limit": 4, "remaining": 1},
        },
        "usage": {
            "requests": 3,
            "tokens": {"input": 30, "output": 12, "cached": 5, "reasoning": 4},
            "images": 3,
            "seconds": 1.235,
            "characters": 9,
            "cost": 0.42,
            "currency": "EUR",
            "since": "2027-01-15T08:00:00+00:00",
            "by_model": {"chat": told(CHAT, 0.3), "draw": told(DRAW, 0.12)},
        },
        "usage_today": {
            **told(CHAT, 0.3),
            "currency": "EUR",
            "since": "2027-01-16T00:00:00+00:00",
            "by_model": {"chat": told(CHAT, 0.3)},
        },
    }
    assert report.ever.by_model["chat"] is CHAT
    assert CHAT.requests == 2, "telling changes nothing"


def test_more_running_calls_than_allowed_leave_none_and_no_limit_tells_none() -> None:
    nothing = Use(0, {})
    report = UsageReport(Allowance(concurrency=1), Standing(None, None, 5), False, "USD", nothing, nothing)
    assert report.concurrency_left == 0
    report = UsageReport(Allowance(), Standing(None, None, 5), False, "USD", nothing, nothing)
    answer = me("crm", [], report)
    assert (answer["limits"], answer["shared"]) == ({}, False)
