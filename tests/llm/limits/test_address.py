"""The option `store`: what it may say, and that its password is never repeated."""

import logging
from pathlib import Path
from typing import Any

import pytest
from parley_common.redis_address import StoreAddress, parse_store
from parley_llm.config import LLMSettings
from pydantic import ValidationError

from tests.fakes.redis_server import run_redis
from tests.llm.limits.conftest import run_replica

SECRET = "pa:ss@w/o?r#d"
SETTINGS = {"upstreams": {"demo": {"preset": "demo"}}, "models": {"*": {"targets": [{"upstream": "demo"}]}}}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis", StoreAddress("single", (("redis", 6379),))),
        ("redis://redis:7000/3", StoreAddress("single", (("redis", 7000),), database=3)),
        ("rediss://[::1]:7000", StoreAddress("single", (("::1", 7000),), tls=True)),
        (f"redis://:{SECRET}@redis/0", StoreAddress("single", (("redis", 6379),), password=SECRET)),
        ("redis://me:a%25b%41@redis", StoreAddress("single", (("redis", 6379),), username="me", password="a%bA")),
        (
            "redis+sentinel://:pw@s1,s2:26380/main/2",
            StoreAddress("sentinel", (("s1", 26379), ("s2", 26380)), password="pw", database=2, service="main"),
        ),
        ("rediss+cluster://n1:7001,n2", StoreAddress("cluster", (("n1", 7001), ("n2", 6379)), tls=True)),
    ],
)
def test_every_kind_of_address(url: str, expected: StoreAddress) -> None:
    assert parse_store(url) == expected
    assert SECRET not in repr(parse_store(url))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgres://:{SECRET}@db/0", "must be empty or begin with redis://"),
        (f"{SECRET}", "must be empty or begin with redis://"),
        (f"redis://:{SECRET}@", "must name a host"),
        (f"redis://:{SECRET}@redis:70000", "must name a host"),
        (f"redis://:{SECRET}@a,b/0", "several hosts only with"),
        (f"redis://:{SECRET}@redis/prod", "database's number"),
        (f"redis+sentinel://:{SECRET}@s1", "Sentinel's master"),
        (f"redis+cluster://:{SECRET}@n1/1", "must not name a database"),
        (f"redis://:{SECRET}@redis?timeout=5", "only the parameter ca_file"),
        (f"redis://:{SECRET}@redis?ca_file=/x.pem", "needs rediss://"),
        (f"rediss://:{SECRET}@redis?ca_file=/nonexistent.pem", "existing PEM file"),
    ],
)
def test_a_wrong_address_is_a_mistake_that_repeats_nothing_of_it(url: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LLMSettings.model_validate({**SETTINGS, "store": url})
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_settings_do_not_show_the_address() -> None:
    settings = LLMSettings.model_validate({**SETTINGS, "store": f"redis://:{SECRET}@redis"})
    assert SECRET not in repr(settings)
    assert LLMSettings.model_validate({**SETTINGS, "store": settings.store}) == settings
    assert not LLMSettings.model_validate(SETTINGS).store.get_secret_value()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"currency": "dollars"}, "currency"),
        ({"callers": [{"name": "a", "keys": ["k"], "max_wait": "soon"}]}, "must be a duration"),
        ({"callers": [{"name": "a", "keys": ["k"], "requests_per_minute": 0}]}, "greater than or equal to 1"),
        ({"models": {"*": {"targets": [{"upstream": "demo", "prices": {"input": -1}}]}}}, "greater than or equal to 0"),
        ({"models": {"*": {"targets": [{"upstream": "demo", "prices": {"inputs": 1}}]}}}, "inputs"),
    ],
)
def test_wrong_limits_and_prices_are_mistakes(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LLMSettings.model_validate({**SETTINGS, **change})


async def test_a_wrong_password_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async with run_redis(tmp_path, password="right-password") as server:
        with caplog.at_level(logging.DEBUG):
            async with run_replica(f"redis://:wrong-password@127.0.0.1:{server.port}") as replica:
                assert replica.ups == [False]
        output = caplog.text + capsys.readouterr().out
        assert "AuthenticationError" in output
        assert "password" not in output
        async with run_replica(f"redis://:right-password@127.0.0.1:{server.port}") as replica:
            assert replica.ups == [True]
