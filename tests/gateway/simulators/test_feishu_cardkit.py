"""The simulated CardKit, as strict as the real one."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from parley_gateway.simulators.feishu.cardkit import CHANGES_PER_S
from parley_gateway.simulators.feishu.cloud import FeishuCloud, SimulatedMessage
from parley_gateway.simulators.server import create_app

from tests.gateway.simulators.test_feishu_api import Clock

CARDS = "/open-apis/cardkit/v1/cards"


def card(content: str = "…", *, streaming: bool = True, **more: Any) -> str:
    element = {"tag": "markdown", "element_id": "answer", "content": content, **more}
    return json.dumps({"schema": "2.0", "config": {"streaming_mode": streaming}, "body": {"elements": [element]}})


class API:
    """The API of one app, called with JSON."""

    def __init__(self, http: httpx2.AsyncClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self.sequence = 0

    async def call(self, method: str, path: str, body: dict[str, Any]) -> int:
        answer: dict[str, Any] = (await self._http.request(method, path, json=body)).json()
        self.card_id = answer.get("data", {}).get("card_id", getattr(self, "card_id", ""))
        return int(answer["code"])

    async def create(self, data: str | None = None) -> int:
        return await self.call("POST", CARDS, {"type": "card_json", "data": card() if data is None else data})

    async def text(self, content: str, *, sequence: int | None = None, element: str = "answer", **more: Any) -> int:
        self.sequence += 1
        body = {"content": content, "sequence": self.sequence if sequence is None else sequence, **more}
        return await self.call("PUT", f"{CARDS}/{self.card_id}/elements/{element}/content", body)

    async def replace(self, data: str) -> int:
        self.sequence += 1
        body = {"card": {"type": "card_json", "data": data}, "sequence": self.sequence}
        return await self.call("PUT", f"{CARDS}/{self.card_id}", body)

    async def streaming(self, on: bool) -> int:
        self.sequence += 1
        body = {"settings": json.dumps({"config": {"streaming_mode": on}}), "sequence": self.sequence}
        return await self.call("PATCH", f"{CARDS}/{self.card_id}/settings", body)

    async def send(self, message_id: str, uuid: str) -> int:
        content = json.dumps({"type": "card", "data": {"card_id": self.card_id}})
        body = {"msg_type": "interactive", "content": content, "uuid": uuid}
        return await self.call("POST", f"/open-apis/im/v1/messages/{message_id}/reply", body)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cloud(clock: Clock) -> FeishuCloud:
    return FeishuCloud(clock=clock)


@pytest.fixture
async def api(cloud: FeishuCloud, clock: Clock) -> AsyncIterator[API]:
    transport = httpx2.ASGITransport(create_app(feishu=cloud))
    async with httpx2.AsyncClient(base_url="http://127.0.0.1", transport=transport, trust_env=False) as client:
        token, _ = cloud.issue_token(cloud.app.app_id, cloud.app.app_secret)
        client.headers["Authorization"] = f"Bearer {token}"
        built = API(client, clock)
        assert await built.create() == 0
        yield built


@pytest.fixture
def question(cloud: FeishuCloud) -> SimulatedMessage:
    return cloud.user_says('{"text": "hi"}', chat_id="oc_1", sender="ou_1")


async def test_card_is_seen_as_it_is_changed(api: API, cloud: FeishuCloud, question: SimulatedMessage) -> None:
    assert await api.send(question.message_id, "u1") == 0
    assert await api.text("Hello") == 0
    (seen,) = cloud.seen_in("oc_1")
    assert '"Hello"' in seen.content
    assert cloud.is_streaming(seen)
    assert await api.replace(card("The end.")) == 0
    assert cloud.is_streaming(seen), "a new card doesn't end streaming"
    assert await api.streaming(False) == 0
    (seen,) = cloud.seen_in("oc_1")
    assert '"The end."' in seen.content
    assert not cloud.is_streaming(seen)


async def test_card_is_sent_once_but_a_repeat_is_the_same_message(
    api: API, cloud: FeishuCloud, question: SimulatedMessage
) -> None:
    assert await api.send(question.message_id, "u1") == 0
    assert await api.send(question.message_id, "u1") == 0
    assert await api.send(question.message_id, "u2") == 230099
    assert len(cloud.seen_in("oc_1")) == 1


async def test_sequence_rises_over_all_changes(api: API) -> None:
    assert await api.text("a", sequence=5) == 0
    assert await api.text("b", sequence=5) == 300317
    assert await api.text("b", sequence=4) == 300317
    api.sequence = 4
    assert await api.streaming(True) == 300317
    api.sequence = 5
    assert await api.replace(card()) == 0
    assert await api.text("b", sequence=2**31) == 10002


async def test_uuid_is_taken_once(api: API) -> None:
    assert await api.text("a", uuid="x") == 0
    assert await api.text("b", uuid="x") == 200770
    assert await api.text("b", uuid="x" * 65) == 10002


async def test_ten_changes_a_second(api: API, clock: Clock) -> None:
    codes = [await api.text(f"text {number}") for number in range(CHANGES_PER_S + 1)]
    assert codes == [0] * CHANGES_PER_S + [99991400]
    clock.now += 1.01
    assert await api.text("again") == 0


async def test_streaming_ends_by_itself_after_ten_minutes(api: API, clock: Clock) -> None:
    clock.now += 599
    assert await api.text("in time") == 0
    clock.now += 2
    assert await api.text("too late") == 200850
    assert await api.text("still off") == 300309
    assert await api.replace(card("a whole card passes")) == 0
    assert await api.streaming(True) == 0
    assert await api.text("on again") == 0


async def test_entity_lives_for_fourteen_days(api: API, clock: Clock) -> None:
    clock.now += 14 * 86400 + 1
    cloud_token = await api.text("late")
    assert cloud_token in (200750, 99991663)
    api.card_id = "0"
    assert await api.text("none") in (200740, 99991663)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("", 300307),
        (card("x" * 31_000), 200860),
        (card("![x](https://e.com/a.png)"), 200570),
        (card(colour="red"), 200220),
        (json.dumps({"schema": "1.0"}), 200220),
        (json.dumps({"schema": "2.0", "body": {"elements": [{"tag": "hr"}] * 201}}), 300305),
        (json.dumps({"schema": "2.0", "body": {"elements": [{"tag": "note"}]}}), 200861),
    ],
)
async def test_bad_cards_are_refused(api: API, data: str, code: int) -> None:
    assert await api.create(data) == code
    assert await api.replace(data) == code


async def test_bad_texts_are_refused(api: API) -> None:
    assert await api.text("") == 10002
    assert await api.text("x" * 100_001) == 10002
    assert await api.text("x", element="nothing") == 300313
    tables = "\n\n".join("| a | b |\n|---|---|\n| 1 | 2 |" for _ in range(5))
    assert await api.text(tables) == 300305


async def test_changes_wait_for_a_click(api: API, cloud: FeishuCloud, clock: Clock) -> None:
    cloud.cardkit.entities[api.card_id].answering_until = clock.now + 2
    assert await api.text("now") == 200810
    clock.now += 3
    assert await api.text("later") == 0
