"""The headers that tell a caller where its limits stand, as OpenAI sends them.

OpenAI documentation, "Rate limits", section "Rate limits in headers": `x-ratelimit-limit-requests: 60`,
`x-ratelimit-remaining-tokens: 149984`, `x-ratelimit-reset-requests: 1s`, `x-ratelimit-reset-tokens: 6m0s`. The last two
say how long until the limit is unused again, spelled as Go's `time.Duration`.
"""

from parley_llm.limits.base import Level, Standing


def rate_limit_headers(standing: Standing) -> bytes:
    """Return finished header lines; empty for a caller without limits per minute."""
    requests, tokens = standing.requests, standing.tokens
    if requests is None and tokens is None:
        return b""
    lines = _lines("requests", requests) if requests is not None else ""
    if tokens is not None:
        lines += _lines("tokens", tokens)
    return lines.encode()


def rate_limit_metadata(standing: Standing) -> list[tuple[str, str]]:
    """Return the same as pairs for gRPC's trailing metadata."""
    pairs = []
    for name, level in (("requests", standing.requests), ("tokens", standing.tokens)):
        if level is not None:
            pairs += [
                (f"x-ratelimit-limit-{name}", str(level.limit)),
                (f"x-ratelimit-remaining-{name}", str(level.remaining)),
                (f"x-ratelimit-reset-{name}", duration(level.reset_s)),
            ]
    return pairs


def duration(seconds: float) -> str:
    """Spell a duration as Go does, in whole milliseconds, rounded up: `12ms`, `1s`, `1.5s`, `6m0s`, `1h0m0s`."""
    milliseconds = -int(-seconds * 1000 // 1)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    whole, rest = divmod(milliseconds, 1000)
    fraction = f".{rest:03}".rstrip("0") if rest else ""
    if whole < 60:
        return f"{whole}{fraction}s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{whole}{fraction}s"
    return f"{minutes // 60}h{minutes % 60}m{whole}{fraction}s"


def _lines(name: str, level: Level) -> str:
    return (
        f"x-ratelimit-limit-{name}: {level.limit}\r\nx-ratelimit-remaining-{name}: {level.remaining}\r\n"
        f"x-ratelimit-reset-{name}: {duration(level.reset_s)}\r\n"
    )
