"""How a caller's account stands, for `GET /v1/parley/me` and the gRPC call `GetUsage`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from parley_llm.limits.base import Allowance, Level, Standing
from parley_llm.limits.ledger import Amounts, ByModel


@dataclass(frozen=True, slots=True)
class Use:
    """What was used since a moment, in seconds since 1970, by model."""

    since: float
    by_model: ByModel

    def total(self) -> Amounts:
        """Return the sums over all models."""
        total = Amounts()
        for amounts in self.by_model.values():
            total.add(amounts)
        return total


@dataclass(frozen=True, slots=True)
class UsageReport:
    """A caller's limits and use. `shared` tells that all replicas are counted, not this process alone."""

    allowance: Allowance
    standing: Standing
    shared: bool
    currency: str
    """What `cost` is counted in: an ISO 4217 code."""
    ever: Use
    """Since this process started, or since Redis began to count."""
    today: Use
    """Since midnight in UTC."""

    @property
    def concurrency_left(self) -> int | None:
        """How many more calls may be in work; None without a limit."""
        most = self.allowance.concurrency
        return None if most is None else max(0, most - self.standing.running)


def me(name: str, models: Iterable[str], report: UsageReport) -> dict[str, object]:
    """Return what a caller is told about itself, ready to be written as JSON."""
    levels = {"requests_per_minute": report.standing.requests, "tokens_per_minute": report.standing.tokens}
    limits: dict[str, object] = {limit: _level(level) for limit, level in levels.items() if level is not None}
    if report.concurrency_left is not None:
        limits["concurrency"] = {"limit": report.allowance.concurrency, "remaining": report.concurrency_left}
    return {
        "name": name,
        "models": list(models),
        "shared": report.shared,
        "limits": limits,
        "usage": _use(report.ever, report.currency),
        "usage_today": _use(report.today, report.currency),
    }


def _level(level: Level) -> Mapping[str, object]:
    return {"limit": level.limit, "remaining": level.remaining, "reset_s": round(level.reset_s, 3)}


def _use(use: Use, currency: str) -> Mapping[str, object]:
    return {
        **_amounts(use.total()),
        "currency": currency,
        "since": datetime.fromtimestamp(use.since, UTC).isoformat(timespec="seconds"),
        "by_model": {model: _amounts(amounts) for model, amounts in sorted(use.by_model.items())},
    }


def _amounts(amounts: Amounts) -> Mapping[str, object]:
    return {
        "requests": amounts.requests,
        "tokens": {
            "input": amounts.input,
            "output": amounts.output,
            "cached": amounts.cached,
            "reasoning": amounts.reasoning,
        },
        "images": amounts.images,
        "seconds": round(amounts.seconds, 3),
        "characters": amounts.characters,
        "cost": round(amounts.cost, 9),
    }
