"""How WeChat pushes: modes, tries, the cut, and what it makes of every kind of answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import parse_qs
from xml.etree import ElementTree

import pytest
from parley_gateway.simulators.server import running
from parley_gateway.simulators.wechat import messages
from parley_gateway.simulators.wechat import webhook as requests
from parley_gateway.simulators.wechat.answers import InvalidAnswerError, MenuLink, links_in, read_answer
from parley_gateway.simulators.wechat.cloud import APIError, WeChatCloud
from parley_gateway.simulators.wechat.crypto import decrypt, encrypt, sign
from parley_gateway.simulators.wechat.pusher import BANNER, Step, Timings, WeChatPusher
from parley_gateway.simulators.wechat.webhook import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

USER = "oUser_1"
TOKEN = "the-token"
KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
WEBHOOK = Webhook("http://unused", TOKEN, encoding_aes_key=KEY)

Answer = Callable[[Request, bytes], Awaitable[bytes | Response]]


class Server:
    """A webhook that answers as a test wants and remembers the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: Answer = _success
        self.requests: list[tuple[str, bytes]] = []
        self.ports: list[int] = []

    async def handle(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append((request.url.query, body))
        assert request.client is not None
        self.ports.append(request.client.port)
        answer = await self.answer(request, body)
        return answer if isinstance(answer, Response) else Response(answer)


async def _success(_request: Request, _body: bytes) -> bytes:
    return b"success"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with running(Starlette(routes=[Route("/hook", server.handle, methods=["GET", "POST"])])) as server.url:
        yield server


def pusher(server: Server, cloud: WeChatCloud | None = None, **changes: Any) -> WeChatPusher:
    webhook = replace(WEBHOOK, url=f"{server.url}/hook", **changes)
    return WeChatPusher(webhook, cloud, timings=Timings(answer_s=0.3))


def reply(text: str = "hello", **changes: str | int) -> bytes:
    fields = messages.text(USER, "gh_simulator", text, at=1_700_000_000.0)
    return messages.to_xml({**{k: v for k, v in fields.items() if k != "MsgId"}, **changes}).encode()


def sealed(xml: bytes, *, key: str = KEY, token: str = TOKEN, app_id: str = "wx_simulator", **changes: str) -> bytes:
    encrypted = encrypt(xml.decode(), key, app_id)
    fields = {"Encrypt": encrypted, "MsgSignature": sign(token, "1", "2", encrypted), "TimeStamp": "1", "Nonce": "2"}
    return messages.to_xml({**fields, **changes}).encode()


async def test_url_check_wants_the_echostr_and_nothing_else(server: Server) -> None:
    async def echo(request: Request, _body: bytes) -> bytes:
        query = request.query_params
        assert query["signature"] == sign(TOKEN, query["timestamp"], query["nonce"])
        return query["echostr"].encode()

    server.answer = echo
    assert (await pusher(server).check_url()).problem == ""
    server.answer = _success
    assert "echostr" in (await pusher(server).check_url()).problem


async def test_plain_push(server: Server) -> None:
    delivery = await pusher(server).say(USER, "a ]]> <b> 你好")
    ((query, body),) = server.requests
    fields = {name: values[0] for name, values in parse_qs(query).items()}
    assert set(fields) == {"signature", "timestamp", "nonce", "openid"}
    assert fields["signature"] == sign(TOKEN, fields["timestamp"], fields["nonce"])
    content = {child.tag: child.text for child in ElementTree.fromstring(body)}
    assert (content["Content"], content["MsgId"]) == ("a ]]> <b> 你好", delivery.message_id)
    assert (content["ToUserName"], content["FromUserName"], content["MsgType"]) == ("gh_simulator", USER, "text")


@pytest.mark.parametrize("mode", ["safe", "compat"])
async def test_encrypted_push(server: Server, mode: Literal["safe", "compat"]) -> None:
    await pusher(server, encryption=mode).say(USER, "你好", menu_id="7")
    ((query, body),) = server.requests
    fields = {name: values[0] for name, values in parse_qs(query).items()}
    content = {child.tag: child.text or "" for child in ElementTree.fromstring(body)}
    expected = sign(TOKEN, fields["timestamp"], fields["nonce"], content["Encrypt"])
    assert (fields["encrypt_type"], fields["msg_signature"]) == ("aes", expected)
    inner = ElementTree.fromstring(decrypt(content["Encrypt"], KEY, "wx_simulator"))
    assert {child.tag: child.text for child in inner}["bizmsgmenuid"] == "7"
    assert ("Content" in content) == (mode == "compat")


async def test_silence_is_cut_and_tried_three_times_alike(server: Server) -> None:
    async def silence(_request: Request, _body: bytes) -> bytes:
        await asyncio.sleep(0.5)
        return reply()

    server.answer = silence
    cloud, told = WeChatCloud(), list[Step]()
    delivery = await pusher(server, cloud).say(USER, "hi", on_step=told.append)
    assert delivery.failed
    assert [seen.text for seen in cloud.seen_by(USER)] == [BANNER]
    assert len(set(server.requests)) == 1
    assert (len(server.requests), len(set(server.ports))) == (3, 3)
    assert [step.status for step in delivery.steps] == [None, None, None]
    assert [step.name for step in told] == ["try 1", "try 2", "try 3"]
    starts = [step.started_after_s for step in delivery.steps]
    assert starts == sorted(starts)
    assert all(step.duration_s >= 0.3 for step in delivery.steps)


async def test_late_try_can_be_answered(server: Server) -> None:
    async def third(_request: Request, _body: bytes) -> bytes:
        await asyncio.sleep(0.5 if len(server.requests) < 3 else 0)
        return reply("at last")

    server.answer = third
    cloud = WeChatCloud()
    delivery = await pusher(server, cloud).say(USER, "hi")
    assert (len(delivery.steps), delivery.text, delivery.failed) == (3, "at last", False)
    (seen,) = cloud.seen_by(USER)
    assert (seen.kind, seen.text, seen.via) == ("text", "at last", "passive")


async def test_acknowledgement_shows_nothing(server: Server) -> None:
    cloud = WeChatCloud()
    for body in (b"success", b""):

        async def acknowledge(_request: Request, _body: bytes, body: bytes = body) -> bytes:
            return body

        server.answer = acknowledge
        delivery = await pusher(server, cloud).say(USER, "hi")
        assert (delivery.text, delivery.failed, len(delivery.steps)) == ("", False, 1)
    assert cloud.seen_by(USER) == []


async def test_error_status_ends_the_tries_with_the_banner(server: Server) -> None:
    async def fail(_request: Request, _body: bytes) -> Response:
        return Response(reply(), status_code=500)

    server.answer = fail
    cloud = WeChatCloud()
    delivery = await pusher(server, cloud).say(USER, "hi")
    assert (len(delivery.steps), delivery.failed) == (1, True)
    assert delivery.steps[0].problem == "HTTP status 500"
    assert [seen.kind for seen in cloud.seen_by(USER)] == ["banner"]


async def test_closed_port_is_tried_again(server: Server) -> None:
    async with running(Starlette()) as url:
        pass
    delivery = await WeChatPusher(replace(WEBHOOK, url=url), timings=Timings(0.3)).say(USER, "hi")
    assert [step.problem for step in delivery.steps] == ["ConnectError: is the gateway running?"] * 3


async def test_actions_count_for_the_quotas(server: Server) -> None:
    cloud = WeChatCloud()
    wechat = pusher(server, cloud)
    body = {"touser": USER, "msgtype": "text", "text": {"content": "hi"}}
    await wechat.event(USER, "subscribe")
    for _ in range(3):
        cloud.send(body)
    with pytest.raises(APIError, match="45047"):
        cloud.send(body)
    await wechat.tap(USER, MenuLink("label", "show", "7"))
    cloud.send(body)
    await wechat.event(USER, "unsubscribe")
    with pytest.raises(APIError, match="45015"):
        cloud.send(body)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"ok", "isn't XML"),
        (b'{"a":1}', "isn't XML"),
        (b"<xml><MsgType>", "isn't XML"),
        (b"success\n", "isn't XML"),
        (reply("a ]]> b").replace(b"]]]]><![CDATA[>", b"]]>"), "isn't XML"),
        (b"<html/>", "the root"),
        (reply(ToUserName="oOther"), "ToUserName"),
        (reply(FromUserName="gh_other"), "FromUserName"),
        (reply(MsgType="image"), "MsgType"),
        (reply(CreateTime="now"), "CreateTime"),
        (reply(""), "Content is empty"),
        (reply("字" * 683), "2049 bytes"),
        (reply().replace(b"<Content>", b"<Nonce>1</Nonce><Nonce>1</Nonce><Content>"), "stands twice"),
        (sealed(reply()), "the account isn't"),
    ],
)
def test_plain_answer_that_wechat_refuses(body: bytes, problem: str) -> None:
    with pytest.raises(InvalidAnswerError, match=problem):
        read_answer(body, WEBHOOK, USER)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (reply(), "isn't encrypted"),
        (sealed(reply(), token="wrong"), "MsgSignature"),
        (sealed(reply(), Nonce="3"), "MsgSignature"),
        (sealed(reply(), key="B" * 43), "doesn't decrypt"),
        (sealed(reply(), app_id="wx_other"), "another AppID"),
        (sealed(reply(ToUserName="oOther")), "ToUserName"),
        (messages.to_xml({"Encrypt": "x"}).encode(), "lacks MsgSignature, Nonce, TimeStamp"),
    ],
)
def test_encrypted_answer_that_wechat_refuses(body: bytes, problem: str) -> None:
    with pytest.raises(InvalidAnswerError, match=problem):
        read_answer(body, replace(WEBHOOK, encryption="safe"), USER)


def test_answers_that_wechat_takes() -> None:
    assert read_answer(reply("字" * 682), WEBHOOK, USER) == "字" * 682
    assert read_answer(sealed(reply()), replace(WEBHOOK, encryption="safe"), USER) == "hello"
    compat = replace(WEBHOOK, encryption="compat")
    assert read_answer(sealed(reply()), compat, USER) == read_answer(reply(), compat, USER) == "hello"


def test_links_are_found() -> None:
    text = 'see <a href="weixin://bizmsgmenu?msgmenucontent=more&msgmenuid=12">this</a> <a href="https://x">x</a>'
    assert links_in(text) == (MenuLink("this", "more", "12"),)


def test_ids_of_messages_are_new() -> None:
    assert len({messages.new_message_id() for _ in range(1000)}) == 1000
    push = requests.push(WEBHOOK, messages.text("gh", USER, "x", at=1.5, message_id="77"), at=1.5)
    assert b"<MsgId>77</MsgId>" in push.body
    assert b"<CreateTime>1</CreateTime>" in push.body
