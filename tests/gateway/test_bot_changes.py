"""Bots that change while the gateway runs: who sees the new ones, who goes on with the old."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from parley_common.boot import StartError
from parley_common.reload import ReloadError
from parley_gateway.bot_changes import BotChanges
from parley_gateway.bots import Bot
from parley_gateway.config import BotSettings, GatewaySettings
from parley_gateway.errors import PermanentDeliveryError
from parley_gateway.housekeeping import Housekeeping
from parley_gateway.platforms.base import RawRequest
from parley_gateway.webhooks import Webhooks

from tests.e2e.waiting import eventually
from tests.fakes.gateway_parts import FakePlatform, question
from tests.gateway.conftest import Gateway

ANSWER_S = 0.3


class RecordingPlatform(FakePlatform):
    """A platform that is built of a secret, and closed at some time."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.secret = secret
        self.closed = False
        self.check: asyncio.Event | None = None

    async def check_credentials(self) -> None:
        if self.check:
            await self.check.wait()
        if self.secret == "wrong":
            raise PermanentDeliveryError("the app secret is wrong", "40125")

    async def close(self) -> None:
        self.closed = True


class Changing:
    """A gateway whose bots change."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.platforms: list[RecordingPlatform] = []
        self.broken: set[str] = set()
        self.housekeeping = Housekeeping(gateway.store, gateway.bots, gateway.levers, gateway.metrics, gateway.clock)
        self.changes = BotChanges(gateway.bots, self._build, self.housekeeping, delivery_s=0.0)

    async def use(self, *bots: BotSettings, answer_s: float = ANSWER_S) -> None:
        await self.changes.apply(bots, answer_s=answer_s)

    def platform(self, name: str = "default") -> RecordingPlatform:
        bot = self.gateway.bots.find("fake", name)
        assert bot is not None
        assert isinstance(bot.platform, RecordingPlatform)
        return bot.platform

    def credentials(self, name: str = "default") -> float | None:
        labels = {"platform": "fake", "bot": name}
        return self.gateway.registry.get_sample_value("parley_gateway_credentials_ok", labels)

    def _build(self, settings: BotSettings) -> Bot:
        if settings.name in self.broken:
            raise StartError(f"gateway.bots: {settings.name}: platform fake can't be loaded")
        self.platforms.append(RecordingPlatform(settings.options["secret"]))
        return Bot(settings, self.platforms[-1])


def bot(name: str = "default", *, secret: str = "one", locale: str = "en", prompt: str = "assistant") -> BotSettings:
    settings = BotSettings(name=name, platform="tests.fakes:none", locale=locale, prompt=prompt)
    return settings.model_copy(update={"platform": "fake", "options": {"secret": secret}})


@pytest.fixture
async def changing(gateway: Gateway) -> AsyncIterator[Changing]:
    changing = Changing(gateway)
    await changing.use(bot())
    yield changing
    await changing.changes.close()
    await changing.housekeeping.stop()


async def test_a_bot_with_the_same_credentials_keeps_its_platform(changing: Changing) -> None:
    platform = changing.platform()
    await changing.use(bot(prompt="translate"), bot("other"))
    assert changing.platform() is platform
    found = changing.gateway.bots.find("fake", "default")
    assert found is not None
    assert found.settings.prompt == "translate"
    assert changing.platform("other") is not platform
    await asyncio.sleep(2 * ANSWER_S)
    assert not platform.closed


@pytest.mark.parametrize("changed", [bot(secret="two"), bot(locale="zh-CN")], ids=["secret", "locale"])
async def test_a_changed_bot_is_seen_by_all_at_once(changing: Changing, changed: BotSettings) -> None:
    gateway = changing.gateway
    webhooks = Webhooks(gateway.bots, gateway.admission, gateway.clicks, gateway.metrics, gateway.tracer, gateway.clock)
    before = changing.platform()
    await changing.use(changed)
    after = changing.platform()
    assert after is not before
    after.handled = PermanentDeliveryError("asked the new one", "1")
    assert (await webhooks.receive("fake", "default", RawRequest("POST", {}, {}, b""))).body == b"later"
    await gateway.accept(question())
    await gateway.work()
    assert (after.phone.texts, before.phone.texts) == (["answer to hello"], [])


async def test_a_message_in_work_is_answered_by_the_platform_it_began_with(changing: Changing) -> None:
    gateway, before = changing.gateway, changing.platform()
    hold = asyncio.Event()
    gateway.llm.script = [hold]
    await gateway.accept(question("first"))
    working = asyncio.create_task(gateway.work())
    await eventually(lambda: gateway.llm.calls)
    await changing.use(bot(secret="two"), answer_s=60)
    hold.set()
    await working
    assert (before.phone.texts, before.closed) == (["answer to first"], False)
    await gateway.accept(question("second", message_id="m2"))
    await gateway.work()
    assert changing.platform().phone.texts == ["answer to second"]


async def test_a_replaced_platform_is_closed_when_nobody_can_be_using_it(changing: Changing) -> None:
    before = changing.platform()
    await changing.use(bot(secret="two"))
    assert not before.closed
    await eventually(lambda: before.closed)
    assert not changing.platform().closed


async def test_stopping_closes_replaced_platforms_at_once(changing: Changing) -> None:
    before = changing.platform()
    await changing.use(bot(secret="two"), answer_s=600)
    await changing.changes.close()
    assert before.closed


async def test_messages_of_a_removed_bot_go_to_the_dead_letters(changing: Changing) -> None:
    await eventually(lambda: changing.credentials() == 1)
    await changing.gateway.accept(question())
    await changing.use(bot("other"))
    await changing.gateway.work()
    (letter,) = await changing.gateway.store.dead_letters()
    assert letter.reason == "unknown_bot"
    assert changing.credentials() is None


async def test_credentials_of_changed_bots_are_tried_at_once(changing: Changing) -> None:
    await eventually(lambda: changing.credentials() == 1)
    await changing.use(bot(secret="wrong"), bot("other"))
    await eventually(lambda: changing.credentials() == 0)
    await eventually(lambda: changing.credentials("other") == 1)
    await changing.use(bot(secret="right"), bot("other"))
    await eventually(lambda: changing.credentials() == 1)


async def test_a_late_answer_about_replaced_credentials_says_nothing(changing: Changing) -> None:
    await changing.use(bot(secret="two"))
    await eventually(lambda: changing.credentials() == 1)
    slow = changing.platform()
    slow.check, slow.secret = asyncio.Event(), "wrong"
    found = changing.gateway.bots.find("fake", "default")
    assert found is not None
    changing.housekeeping.bots_changed([found], [])
    await asyncio.sleep(0.05)
    await changing.use(bot(secret="three"))
    slow.check.set()
    await asyncio.sleep(0.05)
    assert changing.credentials() == 1


async def test_a_platform_that_cannot_be_built_changes_nothing(changing: Changing) -> None:
    before = changing.platform()
    changing.broken.add("other")
    with pytest.raises(ReloadError, match=r"gateway\.bots: other: platform fake can't be loaded"):
        await changing.use(bot(secret="two"), bot("other"))
    assert changing.platform() is before
    assert [platform.closed for platform in changing.platforms] == [False, True]


async def test_a_platform_that_fails_to_close_harms_nobody(
    changing: Changing, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail() -> None:
        raise RuntimeError("no way out")

    changing.platform().close = fail  # type: ignore[method-assign]
    await changing.use(bot(secret="two"), answer_s=0.0)
    await asyncio.sleep(0.1)
    await changing.changes.close()
    assert "platform_not_closed" in capsys.readouterr().out


def test_every_option_survives_the_way_that_running_values_take() -> None:
    wechat = {"app_id": "wx1", "app_secret": "s", "token": "t", "encoding_aes_key": "a" * 43, "reply": "push"}
    feishu = {"app_id": "cli_1", "app_secret": "s", "encrypt_key": "e", "verification_token": "v"}
    settings = GatewaySettings.model_validate(
        {
            "llm": {"key": "caller-key", "timeout": "3m"},
            "bots": [
                {"name": "a", "platform": "wechat", "wechat": wechat, "allow": {"users": ["u"]}},
                {"name": "b", "platform": "feishu", "feishu": feishu, "ai_label": False},
                {"name": "c", "platform": "package.module:object", "options": {"x": [1, {"y": None}]}},
            ],
        }
    )
    assert GatewaySettings.model_validate(settings.model_dump()) == settings
