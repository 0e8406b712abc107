"""WeChat's XML into our own words, and everything that isn't WeChat's XML."""

import pytest
from parley_gateway.errors import MalformedRequestError
from parley_gateway.platforms.wechat.payloads import EventPush, OtherPush, Parties, TextPush, parse_push
from parley_gateway.simulators.wechat import messages
from wechatpy.events import EVENT_TYPES

from tests.gateway.platforms.wechat.vectors import W6A, W6B

AT = 1_700_000_000.0
PARTIES = Parties("oUser_1", "gh_x", AT)


def xml(**fields: str | int) -> str:
    base: dict[str, str | int] = {"ToUserName": "gh_x", "FromUserName": "oUser_1", "CreateTime": int(AT)}
    return messages.to_xml({**base, **fields})


def test_text() -> None:
    user = Parties("oAbCdEfGhIjKlMnOpQrStUvWxYz1", "gh_abcdef012345", AT)
    assert parse_push(W6A.plaintext) == TextPush(user, "24345678901234567", "你好 world", "")


def test_tapped_menu_link() -> None:
    push = parse_push(xml(MsgType="text", Content="show answer", MsgId=7, bizmsgmenuid="24345678901234567"))
    assert push == TextPush(PARTIES, "7", "show answer", "24345678901234567")


def test_message_from_an_article_has_further_fields() -> None:
    push = parse_push(xml(MsgType="text", Content="hi", MsgId=7, MsgDataId="x", Idx="1"))
    assert push == TextPush(PARTIES, "7", "hi", "")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (" padded \n", "padded"),
        ("", ""),
        ("a ]]> b & <b>c</b> &amp;", "a ]]> b & <b>c</b> &amp;"),
        ("<!DOCTYPE html>", "<!DOCTYPE html>"),
        ("emoji 👩‍👩‍👧 [微笑] /::)", "emoji 👩‍👩‍👧 [微笑] /::)"),
        ("line\none", "line\none"),
    ],
)
def test_content_arrives_as_it_was_written(content: str, text: str) -> None:
    push = parse_push(xml(MsgType="text", Content=content, MsgId=7))
    assert isinstance(push, TextPush)
    assert push.text == text


@pytest.mark.parametrize("kind", ["image", "voice", "video", "shortvideo", "location", "link", "IMAGE"])
def test_other_messages(kind: str) -> None:
    push = parse_push(xml(MsgType=kind, MediaId="m", MsgId=7, Location_X="1.5", Recognition=""))
    assert push == OtherPush(PARTIES, kind.lower())


def test_unknown_message_type_is_named_other() -> None:
    assert parse_push(xml(MsgType="hologram", MsgId=7)) == OtherPush(PARTIES, "other")


def test_subscribe_event() -> None:
    user = Parties("oAbCdEfGhIjKlMnOpQrStUvWxYz1", "gh_abcdef012345", AT)
    assert parse_push(W6B.plaintext) == EventPush(user, "subscribe")
    scanned = xml(MsgType="event", Event="subscribe", EventKey="qrscene_123", Ticket="t")
    assert parse_push(scanned) == EventPush(PARTIES, "subscribe")


@pytest.mark.parametrize("name", ["unsubscribe", "SCAN", "CLICK", "VIEW", "LOCATION", "user_authorize_revoke", "x_new"])
def test_every_event_parses(name: str) -> None:
    push = parse_push(xml(MsgType="event", Event=name, EventKey="k"))
    assert push == EventPush(PARTIES, name.lower())


def test_events_known_to_the_library_parse() -> None:
    for name in EVENT_TYPES:
        if not name.startswith(("subscribe_scan", "device_")):
            assert parse_push(xml(MsgType="event", Event=name)) == EventPush(PARTIES, name)


DTD = '<!DOCTYPE xml [<!ENTITY e "x">]><xml><MsgType>&e;</MsgType></xml>'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("hello", id="text"),
        pytest.param('{"MsgType":"text"}', id="JSON"),
        pytest.param("<xml><MsgType>text", id="cut"),
        pytest.param("<message/>", id="other root"),
        pytest.param("<xml/>", id="empty root"),
        pytest.param("<xml>text</xml>", id="text only"),
        pytest.param("<xml><a/></xml>", id="no MsgType"),
        pytest.param("<xml><MsgType/></xml>", id="empty MsgType"),
        pytest.param("<xml><MsgType><a/></MsgType></xml>", id="nested MsgType"),
        pytest.param("<xml><MsgType>text</MsgType><MsgType>text</MsgType></xml>", id="two MsgTypes"),
        pytest.param(DTD, id="entities"),
        pytest.param(xml(MsgType="text", Content="hi"), id="no MsgId"),
        pytest.param(xml(MsgType="text", Content="hi", MsgId="abc"), id="MsgId not a number"),
        pytest.param(xml(MsgType="text", Content="hi", MsgId="1" * 30), id="MsgId too long"),
        pytest.param(xml(MsgType="text", MsgId=7, FromUserName=""), id="no sender"),
        pytest.param(xml(MsgType="text", MsgId=7, FromUserName="a b"), id="sender isn't an OpenID"),
        pytest.param(xml(MsgType="text", MsgId=7, FromUserName="o]]>x"), id="sender with markup"),
        pytest.param(xml(MsgType="text", MsgId=7, ToUserName=""), id="no account"),
        pytest.param(xml(MsgType="text", MsgId=7, CreateTime="soon"), id="no time"),
        pytest.param(xml(MsgType="event"), id="event without a name"),
        pytest.param("<xml><MsgType>event</MsgType><Event><a/></Event></xml>", id="nested event name"),
        pytest.param(xml(MsgType="text", MsgId=7).replace("</xml>", "<Content><b/></Content></xml>"), id="nested text"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequestError):
        parse_push(text)
