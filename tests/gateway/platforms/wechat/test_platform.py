"""One bot from a request to what the gateway is told about it."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from parley_gateway.errors import KeepForLaterError, MalformedRequestError, PermanentDeliveryError
from parley_gateway.messages import MessageKind
from parley_gateway.platforms.base import (
    CAPABILITIES,
    BotContext,
    Challenge,
    Farewell,
    Ignored,
    Messages,
    Platform,
    PlatformServices,
    Query,
    RawRequest,
    SendKey,
    Support,
)
from parley_gateway.platforms.wechat import create
from parley_gateway.platforms.wechat.inline import InlineTimings
from parley_gateway.platforms.wechat.settings import WeChatSettings
from parley_gateway.simulators.wechat import messages
from parley_gateway.simulators.wechat import webhook as requests
from parley_gateway.simulators.wechat.answers import links_in, read_answer
from parley_gateway.simulators.wechat.webhook import Webhook
from parley_gateway.store.base import AcceptOutcome, Receipt

from tests.fakes.gateway_parts import COMMANDS
from tests.gateway.platforms.wechat.conftest import USER, MakeWorld, World
from tests.gateway.platforms.wechat.memory_store import MemoryStore
from tests.gateway.platforms.wechat.vectors import AES_KEY, TOKEN

CONSOLE = Webhook("http://unused", TOKEN, encoding_aes_key=AES_KEY, encryption="safe")


MakePlatform = Callable[..., Platform]


@pytest.fixture
async def make_platform() -> AsyncIterator[MakePlatform]:
    """Build platforms of which no API call is expected."""
    made: list[Platform] = []

    def make(store: MemoryStore | None = None, **options: Any) -> Platform:
        section = {"app_id": "wx_simulator", "app_secret": "s3cret-value", "token": TOKEN, "encoding_aes_key": AES_KEY}
        settings = WeChatSettings.model_validate({**section, **options})
        store = store or MemoryStore()
        services = PlatformServices(
            BotContext("default", "en", COMMANDS), store, store, time.time, on_call=lambda *_call: None, environ={}
        )
        made.append(create(settings, services, timings=InlineTimings(answer_by_s=0.0, open_until_s=0.05)))
        return made[-1]

    yield make
    for platform in made:
        await platform.close()


def request(fields: messages.Fields) -> RawRequest:
    push = requests.push(CONSOLE, fields, at=time.time())
    return RawRequest("POST", push.query, {}, push.body)


def text(content: str, **options: Any) -> RawRequest:
    return request(messages.text("gh_simulator", USER, content, at=time.time(), **options))


async def test_url_check_is_answered_exactly(world: World) -> None:
    wechat = await world.start()
    step = await wechat.check_url()
    assert (step.status, step.problem) == (200, "")


async def test_question(make_platform: MakePlatform) -> None:
    platform = make_platform()
    handled = await platform.handle(text("what is up?", message_id="24345678901234567"))
    assert isinstance(handled, Messages)
    (message,) = handled.messages
    assert (message.kind, message.text, message.sender) == (MessageKind.QUESTION, "what is up?", USER)
    assert message.delivery_key == "wechat/default/24345678901234567"
    assert message.conversation.key == f"wechat/default//{USER}"
    assert not message.group
    assert abs(message.sent_at - time.time()) < 60
    assert (handled.event, handled.refused.body) == ("text", b"success")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("/help", MessageKind.COMMAND),
        ("/HELP me", MessageKind.COMMAND),
        ("/stop\nnow", MessageKind.COMMAND),
        ("/helpless", MessageKind.QUESTION),
        ("what does /help do?", MessageKind.QUESTION),
        ("/", MessageKind.QUESTION),
    ],
)
async def test_commands_are_told_from_questions(make_platform: MakePlatform, content: str, kind: MessageKind) -> None:
    handled = await make_platform().handle(text(content))
    assert isinstance(handled, Messages)
    assert handled.messages[0].kind is kind
    assert handled.event == ("command" if kind is MessageKind.COMMAND else "text")


async def test_time_to_live_follows_the_way_of_answering(make_platform: MakePlatform) -> None:
    for reply, seconds in (("inline", 600.0), ("push", 1800.0), ("auto", 1800.0)):
        handled = await make_platform(reply=reply).handle(text("hi"))
        assert isinstance(handled, Messages)
        assert handled.messages[0].time_to_live_s == seconds


async def test_switched_account_is_answered_inline(make_world: MakeWorld) -> None:
    world = await make_world(verified=False)
    await world.start()
    platform = world.platforms[-1]
    handled = await platform.handle(text("hi"))
    assert isinstance(handled, Messages)
    world.cloud.user_sent(USER)
    session = platform.open_reply(handled.messages[0], {})
    assert not session.keeps_answers
    with pytest.raises(KeepForLaterError):
        await session.abort("sorry", SendKey("u", 0.0))
    handled = await platform.handle(text("hi"))
    assert isinstance(handled, Messages)
    assert platform.open_reply(handled.messages[0], {}).keeps_answers


@pytest.mark.parametrize("kind", ["image", "voice", "video", "hologram"])
async def test_other_messages_get_a_polite_sentence(make_platform: MakePlatform, kind: str) -> None:
    platform = make_platform()
    fields = {**messages.image("gh_simulator", USER, at=time.time()), "MsgType": kind}
    handled = await platform.handle(request(fields))
    assert isinstance(handled, Query)
    assert handled.event == (kind if kind != "hologram" else "other")
    answer = await handled.respond()
    assert read_answer(answer.body, CONSOLE, USER) == "I can only read text so far. Please write it to me."


async def test_user_who_leaves_is_forgotten(make_platform: MakePlatform) -> None:
    platform = make_platform()
    for age_s, expected in ((0.0, 0.0), (120.0, 105.0)):
        left_at = time.time() - age_s
        handled = await platform.handle(request(messages.event("gh_simulator", USER, "unsubscribe", at=left_at)))
        assert isinstance(handled, Farewell)
        assert handled.conversation.key == f"wechat/default//{USER}"
        assert (handled.response.status, handled.response.body) == (200, b"success")
        # A late delivery erases nothing that came long after it.
        assert abs(time.time() - handled.at - expected) < 60


async def test_sentence_is_said_in_the_answer_to_the_request(make_platform: MakePlatform) -> None:
    for reply in ("inline", "push"):
        handled = await make_platform(reply=reply).handle(text("hi"))
        assert isinstance(handled, Messages)
        assert handled.say is not None
        assert read_answer((await handled.say("not today")).body, CONSOLE, USER) == "not today"


@pytest.mark.parametrize("name", ["CLICK", "VIEW", "LOCATION", "something_new"])
async def test_other_events_are_acknowledged(make_platform: MakePlatform, name: str) -> None:
    platform = make_platform()
    handled = await platform.handle(request(messages.event("gh_simulator", USER, name, at=time.time())))
    assert isinstance(handled, Ignored)
    assert (handled.response.status, handled.response.body) == (200, b"success")


async def test_empty_text_is_acknowledged(make_platform: MakePlatform) -> None:
    handled = await make_platform().handle(text("  "))
    assert isinstance(handled, Ignored)


async def test_challenge_carries_nothing_but_the_echostr(make_platform: MakePlatform) -> None:
    platform = make_platform()
    query = requests.url_check(CONSOLE, at=time.time())
    handled = await platform.handle(RawRequest("GET", query, {}, b""))
    assert isinstance(handled, Challenge)
    assert (handled.response.status, handled.response.body) == (200, query["echostr"].encode())
    assert handled.response.content_type.startswith("text/plain")


async def test_decrypted_rubbish_is_refused(make_platform: MakePlatform) -> None:
    platform = make_platform()
    rubbish = {"FromUserName": USER, "MsgType": "text"}
    with pytest.raises(MalformedRequestError):
        await platform.handle(request(rubbish))


async def test_full_queue_is_told_whichever_way_answers_take(make_platform: MakePlatform) -> None:
    for reply in ("inline", "push"):
        handled = await make_platform(reply=reply).handle(text("hi"))
        assert isinstance(handled, Messages)
        receipt = Receipt(AcceptOutcome.FULL, handled.messages[0].delivery_key, time.time(), 1)
        answer = await handled.respond(receipt)
        assert read_answer(answer.body, CONSOLE, USER).startswith("Many people are asking")


@pytest.mark.parametrize(
    ("age_s", "delivery", "last"),
    [(0.0, 1, False), (5.0, 2, False), (9.3, 2, False), (0.0, 3, True), (9.6, 2, True), (9.6, 1, True)],
)
async def test_last_try_is_known_by_its_number_or_its_time(
    make_platform: MakePlatform, age_s: float, delivery: int, last: bool
) -> None:
    store = MemoryStore()
    handled = await make_platform(store, reply="inline").handle(text("hi", message_id="24345678901234567"))
    assert isinstance(handled, Messages)
    store.waiting = ["24345678901234567"]
    receipt = Receipt(AcceptOutcome.DUPLICATE, handled.messages[0].delivery_key, time.time() - age_s, delivery)
    answer = await handled.respond(receipt)
    if last:
        assert links_in(read_answer(answer.body, CONSOLE, USER))
    else:
        assert (answer.status, answer.body) == (503, b"")


async def test_credentials_are_checked_by_the_token_call(world: World) -> None:
    await world.start()
    platform = world.platforms[-1]
    await platform.check_credentials()
    assert world.cloud.count("stable_token") == 1
    world.cloud.fail_next("stable_token", 40125)
    with pytest.raises(PermanentDeliveryError, match="app_secret"):
        await platform.check_credentials()
    await world.start(app_secret=None)
    await world.platforms[-1].check_credentials()
    assert world.cloud.count("stable_token") == 2, "an inline bot without a secret has nothing to check"


async def test_every_capability_is_declared_with_its_reason(make_platform: MakePlatform) -> None:
    platform = make_platform()
    assert set(platform.capabilities) == set(CAPABILITIES)
    for capability in platform.capabilities.values():
        assert capability.reason or capability.support is Support.DONE
    assert platform.redelivery.span_s >= 1200, "a captured request is fresh for ten minutes either way"
