"""Which requests are let in: signatures, freshness, modes, keys, replays, and bodies that WeChat never sends."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from parley_gateway.errors import (
    DecryptError,
    MalformedRequestError,
    SignatureError,
    StaleRequestError,
    WebhookError,
)
from parley_gateway.platforms.base import RawRequest
from parley_gateway.platforms.wechat.settings import WeChatSettings
from parley_gateway.platforms.wechat.webhook import Gate
from parley_gateway.simulators.wechat import messages
from parley_gateway.simulators.wechat import webhook as requests
from parley_gateway.simulators.wechat.answers import read_answer
from parley_gateway.simulators.wechat.crypto import sign
from parley_gateway.simulators.wechat.webhook import Push, Webhook

from tests.fakes.gateway_parts import NOW, FakeClock
from tests.gateway.platforms.wechat.memory_store import MemoryStore
from tests.gateway.platforms.wechat.vectors import AES_KEY, APP_ID, OFFICIAL_KEY, TOKEN, W6A

USER = "oUser_1"
FIELDS = messages.text("gh_simulator", USER, "你好", at=NOW, message_id="24345678901234567")


def webhook(encryption: Any = "safe", *, key: str = AES_KEY, token: str = TOKEN) -> Webhook:
    return Webhook("http://unused", token, APP_ID, "gh_simulator", key, encryption)


class Bot:
    """A gate with its clock and cache."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()
        section = {"app_id": APP_ID, "token": TOKEN, "encoding_aes_key": AES_KEY, **options}
        self.settings = WeChatSettings.model_validate({k: v for k, v in section.items() if v is not None})
        self.gate = Gate(self.settings, self.store, bot="default", clock=self.clock)

    async def open(self, push: Push, **changes: str | None) -> str:
        query = {**push.query, **changes}
        return (await self.gate.open(post(push.body, {k: v for k, v in query.items() if v is not None}))).xml


def post(body: bytes, query: Mapping[str, str]) -> RawRequest:
    return RawRequest("POST", query, {}, body)


async def test_official_url_check_is_answered_with_its_echostr() -> None:
    bot = Bot(token="AAAAA")
    bot.clock.now = 1714036504.0
    query = {
        "signature": "f464b24fc39322e44b38aa78f5edd27bd1441696",
        "timestamp": "1714036504",
        "nonce": "1514711492",
        "echostr": "4375120948345356249",
    }
    assert await bot.gate.check_url(query) == "4375120948345356249"
    with pytest.raises(SignatureError):
        await bot.gate.check_url({**query, "nonce": "1514711493"})
    with pytest.raises(MalformedRequestError):
        await bot.gate.check_url({**query, "echostr": ""})
    bot.clock.now += 601
    with pytest.raises(StaleRequestError):
        await bot.gate.check_url(query)


async def test_known_encrypted_push_is_opened() -> None:
    bot = Bot()
    query = {"encrypt_type": "aes", "msg_signature": W6A.signature, "timestamp": W6A.timestamp, "nonce": W6A.nonce}
    body = f"<xml><ToUserName>gh_x</ToUserName><Encrypt><![CDATA[{W6A.encrypted}]]></Encrypt></xml>"
    assert (await bot.gate.open(post(body.encode(), query))).xml == W6A.plaintext


@pytest.mark.parametrize("mode", ["safe", "compat", "plain"])
async def test_each_mode_opens_and_seals(mode: Any) -> None:
    bot = Bot(encryption=mode)
    console = webhook(mode)
    push = requests.push(console, FIELDS, at=NOW)
    opened = await bot.gate.open(post(push.body, push.query))
    assert opened.xml == messages.to_xml(FIELDS)
    reply = messages.to_xml(messages.text(USER, "gh_simulator", "hi", at=NOW))
    assert read_answer(opened.seal(reply).encode(), console, USER) == "hi"
    assert ("Encrypt" in opened.seal(reply)) == (mode != "plain")


async def test_compat_uses_the_decrypted_content_only() -> None:
    bot = Bot(encryption="compat")
    push = requests.push(webhook("compat"), FIELDS, at=NOW)
    forged = Push(push.query, push.body.replace("你好".encode(), b"forged"), USER)
    assert forged.body != push.body
    assert "你好" in await bot.open(forged)


async def test_key_before_the_last_change_is_accepted_and_used_for_the_reply() -> None:
    bot = Bot(previous_encoding_aes_key=OFFICIAL_KEY)
    console = webhook(key=OFFICIAL_KEY)
    push = requests.push(console, FIELDS, at=NOW)
    opened = await bot.gate.open(post(push.body, push.query))
    reply = messages.to_xml(messages.text(USER, "gh_simulator", "hi", at=NOW))
    assert read_answer(opened.seal(reply).encode(), console, USER) == "hi"
    new_key = requests.push(webhook(), FIELDS, at=NOW)
    assert await bot.open(new_key)


@pytest.mark.parametrize("field", ["msg_signature", "timestamp", "nonce"])
async def test_encrypted_push_with_a_changed_query_is_refused(field: str) -> None:
    push = requests.push(webhook(), FIELDS, at=NOW)
    flipped = ("1" if push.query[field][0] != "1" else "2") + push.query[field][1:]
    with pytest.raises(SignatureError):
        await Bot().open(push, **{field: flipped})
    with pytest.raises(SignatureError):
        await Bot().open(push, **{field: None})


async def test_plain_signature_proves_nothing_about_an_encrypted_body() -> None:
    push = requests.push(webhook(), FIELDS, at=NOW)
    forged = requests.push(webhook(token="a guessed token"), FIELDS, at=NOW)
    with pytest.raises(SignatureError):
        await Bot().open(Push({**push.query, "msg_signature": forged.query["msg_signature"]}, forged.body, USER))


async def test_message_for_another_account_is_refused() -> None:
    console = Webhook("http://unused", TOKEN, "wx_another", "gh_simulator", AES_KEY, "safe")
    with pytest.raises(DecryptError):
        await Bot().open(requests.push(console, FIELDS, at=NOW))
    with pytest.raises(DecryptError):
        await Bot().open(requests.push(webhook(key=OFFICIAL_KEY), FIELDS, at=NOW))


@pytest.mark.parametrize("mode", ["safe", "plain"])
@pytest.mark.parametrize(("age", "accepted"), [(599, True), (601, False), (-599, True), (-601, False)])
async def test_only_fresh_requests_are_accepted(mode: Any, age: int, accepted: bool) -> None:
    bot = Bot(encryption=mode)
    push = requests.push(webhook(mode), FIELDS, at=NOW - age)
    if accepted:
        assert await bot.open(push)
    else:
        with pytest.raises(StaleRequestError):
            await bot.open(push)


@pytest.mark.parametrize("timestamp", ["", "now", "1e9", "-1", "１７００００００００", "9" * 5000])
async def test_timestamp_must_be_a_number(timestamp: str) -> None:
    query = {"timestamp": timestamp, "nonce": "1", "signature": sign(TOKEN, timestamp, "1")}
    with pytest.raises(StaleRequestError):
        await Bot(encryption="plain").gate.open(post(b"<xml/>", query))


async def test_signed_plain_query_serves_one_body_only() -> None:
    bot = Bot(encryption="plain")
    push = requests.push(webhook("plain"), FIELDS, at=NOW)
    assert await bot.open(push) == await bot.open(push), "a redelivery is the same request again"
    with pytest.raises(StaleRequestError):
        await bot.open(Push(push.query, push.body.replace("你好".encode(), b"forged"), USER))
    bot.clock.now += 599
    with pytest.raises(StaleRequestError):
        await bot.open(Push(push.query, b"<xml>later</xml>", USER))


async def test_one_of_two_bodies_with_one_query_wins() -> None:
    bot = Bot(encryption="plain")
    push = requests.push(webhook("plain"), FIELDS, at=NOW)
    outcomes = await asyncio.gather(
        *(bot.open(Push(push.query, f"<xml>{number}</xml>".encode(), USER)) for number in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, StaleRequestError) for outcome in outcomes) == 9


async def test_moving_digits_between_timestamp_and_nonce_gains_nothing() -> None:
    # Sorted and joined, ("0", "01700000000") and ("00", "1700000000") sign the same string.
    bot = Bot(encryption="plain")
    first = {"timestamp": "1700000000", "nonce": "00", "signature": sign(TOKEN, "1700000000", "00")}
    second = {**first, "timestamp": "01700000000", "nonce": "0"}
    assert sign(TOKEN, "01700000000", "0") == first["signature"]
    await bot.gate.open(post(b"<xml>first</xml>", first))
    with pytest.raises(StaleRequestError):
        await bot.gate.open(post(b"<xml>second</xml>", second))


async def test_query_of_a_url_check_signs_no_plain_push() -> None:
    bot = Bot(encryption="plain")
    query = requests.url_check(webhook("plain"), at=NOW)
    assert await bot.gate.check_url(query) == await bot.gate.check_url(query)
    with pytest.raises(StaleRequestError):
        await bot.gate.open(post(messages.to_xml(FIELDS).encode(), query))


async def test_plain_push_to_a_safe_account_is_refused() -> None:
    push = requests.push(webhook("plain"), FIELDS, at=NOW)
    with pytest.raises(SignatureError, match="safe mode"):
        await Bot().open(push)
    with pytest.raises(SignatureError):
        await Bot(encryption="compat").open(push)
    with pytest.raises(MalformedRequestError):
        await Bot().open(push, encrypt_type="aes")


async def test_encrypted_push_to_a_plain_account_is_refused() -> None:
    push = requests.push(webhook(), FIELDS, at=NOW)
    with pytest.raises(MalformedRequestError, match="encoding_aes_key"):
        await Bot(encryption="plain").open(push)


ENTITIES = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><xml><Encrypt>&b;</Encrypt></xml>'
BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b"hello", id="text"),
    pytest.param(b"\xff\xfe", id="not UTF-8"),
    pytest.param(b'{"ToUserName":"gh_x","Encrypt":"x"}', id="WeChat as JSON"),
    pytest.param(b'{"schema":"2.0","header":{"event_id":"1"}}', id="Feishu"),
    pytest.param(b"<xml><Encrypt>abc", id="cut"),
    pytest.param(b"<message><Encrypt>abc</Encrypt></message>", id="other root"),
    pytest.param(b"<xml/>", id="empty root"),
    pytest.param(b"<xml>text</xml>", id="text only"),
    pytest.param(b"<xml><Encrypt/></xml>", id="empty Encrypt"),
    pytest.param(b"<xml><Encrypt><a>1</a></Encrypt></xml>", id="nested Encrypt"),
    pytest.param(b"<xml><Encrypt>a</Encrypt><Encrypt>b</Encrypt></xml>", id="two Encrypts"),
    pytest.param(ENTITIES, id="entities"),
    pytest.param(b"<xml>" + b"<a>" * 20000, id="deep"),
]


@pytest.mark.parametrize("body", BODIES)
async def test_body_that_wechat_never_sends_is_refused(body: bytes) -> None:
    push = requests.push(webhook(), FIELDS, at=NOW)
    with pytest.raises(MalformedRequestError):
        await Bot().gate.open(post(body, push.query))


@pytest.mark.parametrize("body", BODIES)
async def test_unsigned_body_is_refused_in_every_mode(body: bytes) -> None:
    for mode in ("safe", "compat", "plain"):
        with pytest.raises(WebhookError):
            await Bot(encryption=mode).gate.open(post(body, {}))


async def test_refusals_tell_no_secret() -> None:
    push = requests.push(webhook(key=OFFICIAL_KEY), FIELDS, at=NOW)
    for changes in ({}, {"msg_signature": "0"}, {"encrypt_type": None}):
        with pytest.raises(WebhookError) as caught:
            await Bot().open(push, **changes)
        told = f"{caught.value}{caught.value!r}{caught.value.__cause__!r}"
        assert TOKEN not in told
        assert AES_KEY not in told
