"""What is looked at when the store is opened, and what is said about a server that isn't as the guarantees need it."""

import logging
from pathlib import Path
from typing import Any, cast

import pytest
from parley_gateway.errors import StoreUnavailableError
from parley_gateway.store.redis.calls import NO_COPIES, Copies
from parley_gateway.store.redis.checks import check
from parley_gateway.store.redis.link import Link
from parley_gateway.store.redis.store import RedisOptions
from redis.exceptions import ResponseError

from tests.fakes.redis_server import run_redis
from tests.gateway.store.backends import PATIENT_S
from tests.gateway.store.redis.conftest import opened


class FakeLink:
    """Servers that give these answers to INFO, and refuse CONFIG."""

    def __init__(self, *infos: Any) -> None:
        self.infos = list(infos)

    async def everywhere(self, command: str, *_: str) -> list[Any]:
        return self.infos if command == "INFO" else [ResponseError()] * len(self.infos)


async def checks_of(tmp_path: Path, *options: str) -> dict[str, bool]:
    found: dict[str, bool] = {}
    async with (
        run_redis(tmp_path, *options) as server,
        opened(server.url, RedisOptions(command_s=PATIENT_S, on_check=found.__setitem__)),
    ):
        return found


async def test_server_as_it_should_be_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = await checks_of(tmp_path, "appendonly yes", "maxmemory-policy noeviction")

    assert found == {"maxmemory-policy": True, "appendonly": True}
    assert caplog.records == []


async def test_server_that_loses_messages_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = await checks_of(tmp_path, "appendonly no", "maxmemory-policy allkeys-lru")

    assert found == {"maxmemory-policy": False, "appendonly": False}
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(texts) == 2
    assert "maxmemory-policy is 'allkeys-lru' and should be 'noeviction'" in texts[0]
    assert "appendonly is 'no' and should be 'yes'" in texts[1]


async def test_server_that_tells_nothing_could_not_be_checked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = await checks_of(tmp_path, 'rename-command CONFIG ""')

    assert found == {}
    assert [record.getMessage().count("could not be checked") for record in caplog.records] == [1, 1]


async def test_old_server_is_refused() -> None:
    link = FakeLink({"redis_version": "7.4.2"}, {"redis_version": "6.2.14"})
    with pytest.raises(StoreUnavailableError, match=r"Redis 6\.2 is too old: 7\.0 or newer is needed, or Valkey"):
        await check(cast(Link, link), NO_COPIES, lambda name, passed: None)


async def test_wait_for_the_disk_needs_a_server_that_knows_how() -> None:
    link = FakeLink({"redis_version": "7.0.15"})
    with pytest.raises(StoreUnavailableError, match=r"store_wait\.local needs Redis 7\.2"):
        await check(cast(Link, link), Copies(local=1), lambda name, passed: None)
    # Valkey says which Redis it is compatible with.
    link = FakeLink({"redis_version": "7.2.4", "valkey_version": "8.1.0"})
    await check(cast(Link, link), Copies(local=1), lambda name, passed: None)


@pytest.mark.parametrize("info", [{}, {"redis_version": "unstable"}, ResponseError("refused")])
async def test_version_that_isnt_told_could_not_be_checked(info: Any, caplog: pytest.LogCaptureFixture) -> None:
    await check(cast(Link, FakeLink(info)), NO_COPIES, lambda name, passed: None)

    assert "version could not be checked" in caplog.records[0].getMessage()


def test_copies_are_counted_as_asked() -> None:
    assert Copies().command(0.5) is None
    assert Copies(replicas=2).command(0.5) == ("WAIT", 2, 500)
    assert Copies(replicas=2, local=1).command(0.5) == ("WAITAOF", 1, 2, 500)
    assert Copies(replicas=2).enough(2)
    assert not Copies(replicas=2).enough(1)
    assert Copies(replicas=1, local=1).enough([1, 1])
    assert not Copies(replicas=1, local=1).enough([0, 1])
    assert not Copies(replicas=1, local=1).enough([1, 0])
