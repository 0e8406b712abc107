"""Replicas of the service's accounts over one Redis."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from parley_common.redis_address import parse_store
from parley_llm.limits.account import Account, Accounts
from parley_llm.limits.base import Admission, Allowance, Observer, OverLimitError
from parley_llm.limits.link import RedisLink
from parley_llm.limits.shared import CALL_SLACK_S, SharedStore
from parley_llm.usage import Usage

from tests.fakes.redis_server import RedisServer, run_redis

PATIENT_S = 5.0
"""Where a test isn't about a slow Redis, a busy machine must not look like one."""
NAMES = itertools.count()


class Replica:
    """The accounts of one process, and what its metrics would have been told."""

    def __init__(self, url: str, *, answer_s: float = PATIENT_S, slack_s: float = CALL_SLACK_S) -> None:
        self.ups: list[bool] = []
        self.waits: list[tuple[str, float]] = []
        self.depth = 0
        observer = Observer(lambda *wait: self.waits.append(wait), self._waiting, self.ups.append)
        self.link = RedisLink(parse_store(url), observer.store_up, answer_s=answer_s)
        self.store = SharedStore(self.link, call_slack_s=slack_s)
        self.accounts = Accounts(store=self.store, observer=observer)

    def of(self, caller: str, allowance: Allowance) -> Account:
        """Return an account in this process."""
        return self.accounts.of(caller, allowance)

    def _waiting(self, change: int) -> None:
        self.depth += change


@asynccontextmanager
async def run_replica(
    url: str, *, answer_s: float = PATIENT_S, slack_s: float = CALL_SLACK_S
) -> AsyncIterator[Replica]:
    """Run a replica while the block runs."""
    replica = Replica(url, answer_s=answer_s, slack_s=slack_s)
    await replica.accounts.start()
    try:
        yield replica
    finally:
        await replica.accounts.stop()


async def tried(account: Account, within_s: float = 30) -> Admission | OverLimitError:
    """Return what came of asking to be let in."""
    try:
        return await account.admit(within_s)
    except OverLimitError as error:
        return error


def used(tokens: int = 0) -> Usage:
    """Return a use of input tokens."""
    return Usage(input=tokens)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """One server for the tests that don't hurt it; each takes a caller of its own."""
    async with run_redis(Path(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture
def caller() -> str:
    """A name that no other test has."""
    return f"caller-{next(NAMES)}"
