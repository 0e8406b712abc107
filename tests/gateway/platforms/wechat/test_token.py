"""The access token: fetched once for everybody, renewed early, replaced once when it is refused."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from parley_gateway.errors import DeliveryError, PermanentDeliveryError, TransientDeliveryError
from parley_gateway.platforms import shared
from parley_gateway.platforms.outgoing import create_transport
from parley_gateway.platforms.shared import LOCK_S, SharedValue
from parley_gateway.platforms.wechat.api import WeChatAPI
from parley_gateway.platforms.wechat.push import PushMemory
from parley_gateway.platforms.wechat.send import Messenger
from parley_gateway.platforms.wechat.token import shared_token
from parley_gateway.simulators.server import create_app, running
from parley_gateway.simulators.wechat.cloud import WeChatCloud

from tests.fakes.gateway_parts import FakeClock
from tests.gateway.platforms.wechat.memory_store import MemoryStore

USER = "oUser_1"


class Account:
    """One account with as many replicas as a test wants."""

    def __init__(self) -> None:
        self.url = ""
        """Where the API is served; empty while it is called without a network."""
        self.clock = FakeClock()
        self.cloud = WeChatCloud(clock=self.clock)
        self.store = MemoryStore()
        self.calls: list[tuple[str, str, str]] = []
        self.apis: list[WeChatAPI] = []

    def tokens(self, secret: str = "simulator-app-secret", app_id: str = "wx_simulator") -> SharedValue:
        transport: httpx2.AsyncBaseTransport = httpx2.ASGITransport(app=create_app(self.cloud))
        if self.url:
            transport = create_transport(self.url, proxy="", ca_file=None, environ={})
        api = WeChatAPI(self.url or "http://simulator", transport, lambda *call: self.calls.append(call))
        self.apis.append(api)
        return shared_token(api, self.store, app_id=app_id, app_secret=secret, clock=self.clock)

    def messenger(self) -> Messenger:
        tokens = self.tokens()
        memory = PushMemory(
            self.store, bot="default", app_id="wx_simulator", clock=self.clock, on_event=lambda _name: None
        )
        return Messenger(self.apis[-1], tokens, memory, switches=True)


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    account = Account()
    yield account
    for api in account.apis:
        await api.close()


async def test_twenty_senders_fetch_one_token(account: Account) -> None:
    messengers = [account.messenger() for _ in range(2)]
    for number in range(20):
        account.cloud.user_sent(f"oUser_{number}")
    await asyncio.gather(
        *(messengers[number % 2].send_text(f"oUser_{number}", "hi", f"c{number}") for number in range(20))
    )
    assert account.cloud.count("stable_token") == 1
    assert account.cloud.count("send") == 20


async def test_token_is_renewed_before_it_ends_and_the_old_one_used_meanwhile(account: Account) -> None:
    tokens = account.tokens()
    first = await tokens.get()
    account.clock.now += 7200 - 250
    assert await tokens.get() == first
    account.clock.now += 20
    second = await tokens.get()
    assert second != first
    assert account.cloud.count("stable_token") == 2
    account.cloud.check_token(first)


async def test_others_use_the_old_token_while_one_renews(account: Account) -> None:
    tokens = account.tokens()
    first = await tokens.get()
    account.clock.now += 7200 - 230
    found = await asyncio.gather(*(tokens.get() for _ in range(10)))
    assert len(set(found) - {first}) == 1
    assert account.cloud.count("stable_token") == 2


async def test_failed_renewal_leaves_the_old_token_and_isnt_repeated_at_once(account: Account) -> None:
    tokens = account.tokens()
    first = await tokens.get()
    account.clock.now += 7200 - 230
    account.cloud.fail_next("stable_token", -1)
    assert [await tokens.get() for _ in range(5)] == [first] * 5
    assert account.cloud.count("stable_token") == 2
    account.clock.now += LOCK_S + 1
    assert await tokens.get() != first


@pytest.mark.parametrize("code", [40001, 40014, 42001])
async def test_refused_token_is_replaced_and_the_message_sent_once_more(account: Account, code: int) -> None:
    messenger = account.messenger()
    account.cloud.user_sent(USER)
    account.cloud.fail_next("send", code)
    await messenger.send_text(USER, "hi", "c1")
    assert [seen.text for seen in account.cloud.seen_by(USER)] == ["hi"]
    assert (account.cloud.count("stable_token"), account.cloud.count("send")) == (2, 2)


async def test_expired_token_is_replaced(account: Account) -> None:
    messenger = account.messenger()
    account.cloud.user_sent(USER)
    await messenger.send_text(USER, "one", "c1")
    account.cloud.expire_tokens()
    await messenger.send_text(USER, "two", "c1")
    assert [seen.text for seen in account.cloud.seen_by(USER)] == ["one", "two"]
    assert account.cloud.count("stable_token") == 2


async def test_token_that_stays_refused_is_retried_exactly_once(account: Account) -> None:
    messenger = account.messenger()
    account.cloud.user_sent(USER)
    account.cloud.fail_next("send", 40001, times=10)
    with pytest.raises(TransientDeliveryError):
        await messenger.send_text(USER, "hi", "c1")
    assert (account.cloud.count("stable_token"), account.cloud.count("send")) == (2, 2)


async def test_complaint_about_an_old_token_leaves_the_new_one(account: Account) -> None:
    tokens = account.tokens()
    current = await tokens.get()
    await tokens.discard("an older token")
    assert await tokens.get() == current
    assert account.cloud.count("stable_token") == 1


async def test_token_is_never_forced_to_change(account: Account) -> None:
    messenger = account.messenger()
    account.cloud.user_sent(USER)
    other_program = account.cloud.issue_stable_token("wx_simulator", "simulator-app-secret", force_refresh=False)[0]
    account.cloud.fail_next("send", 40001)
    await messenger.send_text(USER, "hi", "c1")
    account.cloud.check_token(other_program)


@pytest.mark.parametrize(
    ("secret", "app_id", "code", "advice"),
    [
        ("wrong-secret-value", "wx_simulator", "40125", "app_secret"),
        ("simulator-app-secret", "wx_unknown", "40013", "app_id"),
    ],
)
async def test_wrong_credentials_say_what_to_change(
    account: Account, secret: str, app_id: str, code: str, advice: str
) -> None:
    with pytest.raises(PermanentDeliveryError) as caught:
        await account.tokens(secret, app_id).make()
    assert caught.value.code == code
    assert advice in str(caught.value)
    assert secret not in str(caught.value)


async def test_address_that_is_not_allowed_says_what_to_change(account: Account) -> None:
    account.cloud.fail_next("stable_token", 40164, errmsg="invalid ip 192.0.2.7, not in whitelist")
    with pytest.raises(PermanentDeliveryError, match=r"allow-list.*192\.0\.2\.7"):
        await account.tokens().make()


async def test_lock_of_a_dead_process_runs_out(account: Account) -> None:
    tokens = account.tokens()
    await account.store.try_lock("wechat/wx_simulator/access_token", "dead", now=account.clock.now, ttl_s=LOCK_S)
    waiting = asyncio.create_task(tokens.get())
    await asyncio.sleep(0.02)
    assert not waiting.done()
    account.clock.now += LOCK_S
    assert await waiting


async def test_waiting_for_another_process_ends(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "LOCK_S", 0.05)
    await account.store.try_lock("wechat/wx_simulator/access_token", "slow", now=account.clock.now, ttl_s=1000)
    with pytest.raises(TransientDeliveryError):
        await account.tokens().get()


async def test_failed_fetch_gives_the_lock_back(account: Account) -> None:
    tokens = account.tokens()
    account.cloud.fail_next("stable_token", -1)
    with pytest.raises(DeliveryError):
        await tokens.get()
    assert account.store.locks == {}
    assert await tokens.get()


async def test_no_secret_in_logs_or_errors(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    # Other tests may have made the client quiet, as the services do.
    caplog.set_level(logging.DEBUG, logger="httpx2")
    async with running(create_app(account.cloud)) as account.url:
        access_token, problems = await _use_everything(account)
    # The simulator's own access log names what it was called with.
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn")]
    written = "\n".join([*ours, *problems])
    assert "message/custom/send" in written, "the log was read at all"
    for secret in (access_token, "simulator-app-secret", "what the user may read"):
        assert secret not in written


async def _use_everything(account: Account) -> tuple[str, list[str]]:
    """Send and fail in several ways; return the access token and all that the errors say."""
    messenger = account.messenger()
    account.cloud.user_sent(USER)
    await messenger.send_text(USER, "what the user may read", "c1")
    access_token = await account.tokens().get()
    problems = []
    arrangements: list[Callable[[], None]] = [
        lambda: account.cloud.fail_next("send", 40003),
        lambda: account.cloud.lose_next_answer("send"),
        lambda: account.cloud.fail_next("send", 40001, times=2),
    ]
    for arrange in arrangements:
        arrange()
        with pytest.raises(DeliveryError) as caught:
            await messenger.send_text(USER, "what the user may read", "c1")
        problems.append(f"{caught.value}{caught.value!r}{caught.value.__cause__!r}")
    return access_token, problems
