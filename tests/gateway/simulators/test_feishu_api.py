"""The simulated Feishu's API, as strict as the real one."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from parley_gateway.simulators.feishu.cloud import (
    MAX_EDITS,
    CloudLimits,
    FeishuCloud,
    SimulatedMessage,
    single_chat,
)
from parley_gateway.simulators.feishu.errors import APIError
from parley_gateway.simulators.server import create_app

CARD = json.dumps({"schema": "2.0", "body": {"elements": [{"tag": "markdown", "content": "x"}]}})


class Clock:
    """A clock that stands until it is moved."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cloud(clock: Clock) -> FeishuCloud:
    return FeishuCloud(clock=clock)


@pytest.fixture
async def http(cloud: FeishuCloud) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_app(feishu=cloud))
    async with httpx2.AsyncClient(base_url="http://127.0.0.1", transport=transport, trust_env=False) as client:
        token, _ = cloud.issue_token(cloud.app.app_id, cloud.app.app_secret)
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


@pytest.fixture
def question(cloud: FeishuCloud) -> SimulatedMessage:
    return cloud.user_says('{"text": "hi"}', chat_id="oc_1", sender="ou_1")


async def reply(http: httpx2.AsyncClient, message_id: str, **body: Any) -> dict[str, Any]:
    content = {"msg_type": "text", "content": '{"text": "answer"}', **body}
    answer: dict[str, Any] = (await http.post(f"/open-apis/im/v1/messages/{message_id}/reply", json=content)).json()
    return answer


async def test_token_stays_the_same_until_half_an_hour_is_left(
    http: httpx2.AsyncClient, cloud: FeishuCloud, clock: Clock
) -> None:
    async def fetch() -> dict[str, Any]:
        body = {"app_id": cloud.app.app_id, "app_secret": cloud.app.app_secret}
        answer = await http.post("/open-apis/auth/v3/tenant_access_token/internal", json=body)
        found: dict[str, Any] = answer.json()
        return found

    first = await fetch()
    assert (first["code"], first["expire"]) == (0, 7200)
    clock.now += 5400
    assert (await fetch())["tenant_access_token"] == first["tenant_access_token"]
    clock.now += 1
    second = await fetch()
    assert second["tenant_access_token"] != first["tenant_access_token"]
    cloud.check_token(f"Bearer {first['tenant_access_token']}")  # The old one is valid to its end.
    clock.now += 1799
    with pytest.raises(APIError):
        cloud.check_token(f"Bearer {first['tenant_access_token']}")


@pytest.mark.parametrize(
    ("app_id", "secret", "code"),
    [("cli_other", "x", 10014), ("cli_simulator", "x", 10014), ("", "", 10003), (None, 5, 10003)],
)
async def test_wrong_credentials(http: httpx2.AsyncClient, app_id: Any, secret: Any, code: int) -> None:
    body = {"app_id": app_id, "app_secret": secret}
    answer = await http.post("/open-apis/auth/v3/tenant_access_token/internal", json=body)
    assert (answer.status_code, answer.json()["code"]) == (200, code)


@pytest.mark.parametrize(("header", "code"), [("", 99991661), ("Basic x", 99991661), ("Bearer t-wrong", 99991663)])
async def test_calls_need_a_token(http: httpx2.AsyncClient, header: str, code: int) -> None:
    answer = await http.get("/open-apis/bot/v3/info", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.headers["x-tt-logid"]


async def test_bot_info(http: httpx2.AsyncClient, cloud: FeishuCloud) -> None:
    answer = (await http.get("/open-apis/bot/v3/info")).json()
    assert answer["bot"]["open_id"] == cloud.app.bot_open_id


async def test_reply_shows_in_the_chat(
    http: httpx2.AsyncClient, cloud: FeishuCloud, question: SimulatedMessage
) -> None:
    answer = await reply(http, question.message_id)
    (seen,) = cloud.seen_in("oc_1")
    assert answer["data"]["message_id"] == seen.message_id
    assert (seen.parent_id, seen.content) == (question.message_id, '{"text": "answer"}')


async def test_reply_in_thread_opens_one(
    http: httpx2.AsyncClient, cloud: FeishuCloud, question: SimulatedMessage
) -> None:
    answer = await reply(http, question.message_id, reply_in_thread=True)
    assert answer["data"]["thread_id"].startswith("omt_")


async def test_same_uuid_within_an_hour_is_one_message(
    http: httpx2.AsyncClient, cloud: FeishuCloud, clock: Clock, question: SimulatedMessage
) -> None:
    first = await reply(http, question.message_id, uuid="u1")
    clock.now += 3599
    assert (await reply(http, question.message_id, uuid="u1"))["data"]["message_id"] == first["data"]["message_id"]
    clock.now += 2
    assert (await reply(http, question.message_id, uuid="u1"))["data"]["message_id"] != first["data"]["message_id"]
    assert len(cloud.seen_in("oc_1")) == 2


async def test_refused_message_does_not_use_its_uuid_up(
    http: httpx2.AsyncClient, cloud: FeishuCloud, question: SimulatedMessage
) -> None:
    assert (await reply(http, question.message_id, uuid="u1", content="{}"))["code"] == 230001
    assert (await reply(http, question.message_id, uuid="u1"))["code"] == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"content": {"text": "no string"}}, 230001),
        ({"content": "not json"}, 230001),
        ({"content": "[]"}, 230001),
        ({"content": '{"text": ""}'}, 230001),
        ({"msg_type": "image", "content": "{}"}, 230001),
        ({"uuid": "u" * 51}, 99992402),
        ({"uuid": 5}, 99992402),
        ({"content": json.dumps({"text": "x" * 150 * 1024})}, 230025),
        ({"msg_type": "post", "content": json.dumps({"zh_cn": "x" * 30 * 1024})}, 230025),
        ({"msg_type": "interactive", "content": CARD + " " * 30 * 1024}, 230025),
    ],
)
async def test_bad_message_is_refused(
    http: httpx2.AsyncClient, question: SimulatedMessage, body: dict[str, Any], code: int
) -> None:
    assert (await reply(http, question.message_id, **body))["code"] == code


async def test_bad_card_names_its_cause(http: httpx2.AsyncClient, question: SimulatedMessage) -> None:
    answer = await reply(http, question.message_id, msg_type="interactive", content='{"schema": "2.0"}')
    assert answer["code"] == 230099
    assert "ErrCode: 200621;" in answer["msg"]


async def test_unknown_and_recalled_messages_take_no_reply(
    http: httpx2.AsyncClient, cloud: FeishuCloud, question: SimulatedMessage
) -> None:
    assert (await reply(http, "om_unknown"))["code"] == 231003
    cloud.recall(question.message_id)
    assert (await reply(http, question.message_id))["code"] == 230110


async def test_sixth_message_in_a_second_is_too_much(
    http: httpx2.AsyncClient, clock: Clock, question: SimulatedMessage, cloud: FeishuCloud
) -> None:
    codes = [(await reply(http, question.message_id))["code"] for _ in range(6)]
    assert codes == [0, 0, 0, 0, 0, 230020]
    other = cloud.user_says('{"text": "hi"}', chat_id="oc_2", sender="ou_1")
    assert (await reply(http, other.message_id))["code"] == 0
    clock.now += 1.0
    assert (await reply(http, question.message_id))["code"] == 0


async def test_calls_that_come_too_fast_are_told_to_wait(http: httpx2.AsyncClient, cloud: FeishuCloud) -> None:
    cloud.limits = CloudLimits(calls_per_api=1)
    await http.get("/open-apis/bot/v3/info")
    answer = await http.get("/open-apis/bot/v3/info")
    assert (answer.status_code, answer.json()["code"]) == (429, 99991400)
    assert answer.headers["x-ogw-ratelimit-reset"] == "1"


async def test_send_to_chat_and_user(http: httpx2.AsyncClient, cloud: FeishuCloud) -> None:
    body = {"msg_type": "text", "content": '{"text": "x"}'}
    for kind, receiver, chat in (("chat_id", "oc_9", "oc_9"), ("open_id", "ou_9", single_chat("ou_9"))):
        path = f"/open-apis/im/v1/messages?receive_id_type={kind}"
        assert (await http.post(path, json={**body, "receive_id": receiver})).json()["code"] == 0
        assert len(cloud.seen_in(chat)) == 1
    answer = await http.post("/open-apis/im/v1/messages?receive_id_type=email", json={**body, "receive_id": "a@b"})
    assert answer.json()["code"] == 230001


async def test_patch_replaces_a_card(
    http: httpx2.AsyncClient, cloud: FeishuCloud, clock: Clock, question: SimulatedMessage
) -> None:
    sent = await reply(http, question.message_id, msg_type="interactive", content=CARD)
    path = f"/open-apis/im/v1/messages/{sent['data']['message_id']}"
    newer = CARD.replace('"x"', '"y"')
    assert (await http.patch(path, json={"content": newer})).json()["code"] == 0
    assert cloud.seen_in("oc_1")[0].content == newer
    assert (await http.patch(path, json={"content": "{}"})).json()["code"] == 230099
    cloud.messages[sent["data"]["message_id"]].created_at = clock.now - 14 * 86_400 - 1
    assert (await http.patch(path, json={"content": newer})).json()["code"] == 230031
    assert (await http.patch(f"/open-apis/im/v1/messages/{question.message_id}", json={})).json()["code"] == 230001


async def test_text_is_edited_twenty_times(http: httpx2.AsyncClient, question: SimulatedMessage) -> None:
    sent = await reply(http, question.message_id)
    path = f"/open-apis/im/v1/messages/{sent['data']['message_id']}"
    body = {"msg_type": "text", "content": '{"text": "edited"}'}
    codes = [(await http.put(path, json=body)).json()["code"] for _ in range(MAX_EDITS + 1)]
    assert codes == [0] * MAX_EDITS + [230072]


async def test_bot_recalls_its_message(http: httpx2.AsyncClient, question: SimulatedMessage) -> None:
    sent = await reply(http, question.message_id)
    path = f"/open-apis/im/v1/messages/{sent['data']['message_id']}"
    assert (await http.delete(path)).json()["code"] == 0
    assert (await http.delete(path)).json()["code"] == 230110


async def test_reactions_come_and_go(http: httpx2.AsyncClient, cloud: FeishuCloud, question: SimulatedMessage) -> None:
    path = f"/open-apis/im/v1/messages/{question.message_id}/reactions"
    added = (await http.post(path, json={"reaction_type": {"emoji_type": "Typing"}})).json()
    assert list(question.reactions.values()) == ["Typing"]
    assert (await http.delete(f"{path}/{added['data']['reaction_id']}")).json()["code"] == 0
    assert not question.reactions
    assert (await http.post(path, json={"reaction_type": "Typing"})).json()["code"] == 231001
    assert (await http.delete(f"{path}/unknown")).json()["code"] == 231007


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff"])
async def test_body_that_is_no_object(http: httpx2.AsyncClient, question: SimulatedMessage, body: bytes) -> None:
    path = f"/open-apis/im/v1/messages/{question.message_id}/reply"
    assert (await http.post(path, content=body)).json()["code"] == 9499


async def test_arranged_faults(http: httpx2.AsyncClient, cloud: FeishuCloud, question: SimulatedMessage) -> None:
    cloud.fail_next("reply", APIError(2200, "internal error", 500), times=2)
    assert [(await reply(http, question.message_id))["code"] for _ in range(3)] == [2200, 2200, 0]
    cloud.lose_next_answer("reply")
    lost = await http.post(
        f"/open-apis/im/v1/messages/{question.message_id}/reply",
        json={"msg_type": "text", "content": '{"text": "lost"}'},
    )
    assert lost.status_code == 502
    assert cloud.seen_in("oc_1")[-1].content == '{"text": "lost"}'


async def test_control_routes_show_and_say(http: httpx2.AsyncClient, cloud: FeishuCloud) -> None:
    said = await http.post(
        "/_simulator/feishu/messages", json={"content": '{"text": "hi"}', "chat_id": "oc_3", "sender": "ou_1"}
    )
    await reply(http, said.json()["message_id"])
    (seen,) = (await http.get("/_simulator/feishu/chats/oc_3")).json()["messages"]
    assert seen["parent_id"] == said.json()["message_id"]
    assert json.loads(seen["content"]) == {"text": "answer"}
