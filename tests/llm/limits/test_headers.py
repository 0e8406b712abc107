"""The headers that tell of limits: their spelling, and when there are none."""

import pytest
from parley_llm.limits.base import Level, Standing
from parley_llm.limits.headers import duration, rate_limit_headers, rate_limit_metadata


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (0.0001, "1ms"),
        (0.9995, "1s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (361.25, "6m1.25s"),
        (3600, "1h0m0s"),
        (90_061.001, "25h1m1.001s"),
    ],
)
def test_durations_are_spelled_as_go_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_both_limits_are_told() -> None:
    standing = Standing(Level(60, 1), Level(150_000, 0.0064), 3)
    assert rate_limit_headers(standing) == (
        b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\nx-ratelimit-reset-requests: 1s\r\n"
        b"x-ratelimit-limit-tokens: 150000\r\nx-ratelimit-remaining-tokens: 149984\r\n"
        b"x-ratelimit-reset-tokens: 7ms\r\n"
    )
    lines = rate_limit_headers(standing).decode().split("\r\n")[:-1]
    assert [tuple(line.split(": ")) for line in lines] == rate_limit_metadata(standing)


def test_only_limits_per_minute_have_headers() -> None:
    assert rate_limit_headers(Standing(None, None, 5)) == b""
    assert rate_limit_metadata(Standing()) == []
    assert rate_limit_headers(Standing(None, Level(100, 90))) == (
        b"x-ratelimit-limit-tokens: 100\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 1m30s\r\n"
    )
