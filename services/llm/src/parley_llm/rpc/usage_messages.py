"""A caller's limits and use as the gRPC message that tells them."""

from parley.llm.v1 import llm_service_pb2

from parley_llm.limits.base import Level
from parley_llm.limits.report import UsageReport, Use


def usage_report(caller: str, report: UsageReport) -> llm_service_pb2.GetUsageResponse:
    """Return a report as a message."""
    levels = {"requests_per_minute": report.standing.requests, "tokens_per_minute": report.standing.tokens}
    limits = [_limit(name, level) for name, level in levels.items() if level is not None]
    if report.concurrency_left is not None:
        limits.append(
            llm_service_pb2.Limit(
                name="concurrency", limit=report.allowance.concurrency, remaining=report.concurrency_left
            )
        )
    return llm_service_pb2.GetUsageResponse(
        caller=caller,
        limits=limits,
        total=_sum(report.ever),
        today=_sum(report.today),
        since=int(report.ever.since),
        shared=report.shared,
        currency=report.currency,
    )


def _limit(name: str, level: Level) -> llm_service_pb2.Limit:
    return llm_service_pb2.Limit(name=name, limit=level.limit, remaining=level.remaining, reset_s=level.reset_s)


def _sum(use: Use) -> llm_service_pb2.UsageSum:
    total = use.total()
    return llm_service_pb2.UsageSum(
        requests=total.requests,
        input_tokens=total.input,
        output_tokens=total.output,
        cached_tokens=total.cached,
        reasoning_tokens=total.reasoning,
        cost=total.cost,
    )
