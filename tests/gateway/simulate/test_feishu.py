"""`simulate feishu` against a real gateway and the simulator."""

import asyncio
import json
import re

import pytest
from parley_gateway.messages import OutboundPart
from parley_gateway.ports import FormattedReply
from parley_gateway.simulate import feishu as simulate_feishu
from parley_gateway.simulators.feishu.cloud import single_chat
from parley_gateway.simulators.feishu.errors import APIError
from parley_gateway.simulators.feishu.events import Mentioned, message_event, text_content
from parley_gateway.simulators.feishu.pusher import FeishuPusher, Timings, Webhook

from tests.gateway.simulate.conftest import Stage, feishu_bot


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_feishu, "QUIET_S", 0.3)


async def test_answer_is_shown_with_the_time_of_each_step(stage: Stage) -> None:
    bot = feishu_bot(stage.simulator)
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], text="ping", gateway=gateway, user="me") == 0
    assert re.fullmatch(
        r"ou_me → ping\n  delivery 1: acknowledged after \d+ ms\n  answer after .+s:\nanswer to ping", stage.output
    )


async def test_every_part_is_shown(stage: Stage) -> None:
    bot = feishu_bot(stage.simulator)
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], text="one|two", gateway=gateway) == 0
    assert stage.output.count("answer after") == 2
    assert "answer to one" in stage.output
    assert "two" in stage.lines[-1]


async def test_card_is_shown_as_text_and_its_fallback_when_refused(stage: Stage) -> None:
    bot = feishu_bot(stage.simulator)
    card = {"schema": "2.0", "body": {"elements": [{"tag": "markdown", "content": "**bold**"}]}}
    payloads = [json.dumps(card), json.dumps({**card, "colour": "red"})]

    async def format_reply(markdown: str, **_: object) -> FormattedReply:
        return FormattedReply(tuple(OutboundPart(payload=each, fallback_text="bold") for each in payloads), False)

    stage.formatter.format_reply = format_reply  # type: ignore[method-assign]  # A stand-in's one other answer.
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], gateway=gateway) == 0
    assert [line.split(":\n")[1] for line in stage.lines if "answer after" in line] == ["**bold**", "bold"]
    assert [each.msg_type for each in stage.feishu.seen_in(single_chat("ou_simulated-user"))] == ["interactive", "text"]


async def test_card_is_shown_while_it_is_written(stage: Stage) -> None:
    bot = feishu_bot(stage.simulator, streaming=True)
    more = asyncio.Event()
    stage.llm.script = [more]
    async with stage.gateway(bot) as gateway:
        playing = asyncio.create_task(stage.simulate([bot], text="ping", gateway=gateway))
        async with asyncio.timeout(10):
            while "answer to" not in stage.output:
                await asyncio.sleep(0.02)
        more.set()
        assert await playing == 0
    shown = re.findall(r"the card shows (\d+) characters: (.*)", stage.output)
    assert ("10", "answer to ") in shown
    assert stage.output.count("answer after") == 1
    assert "answer to ping" in stage.output


async def test_group_message_mentions_the_bot(stage: Stage) -> None:
    bot = feishu_bot(stage.simulator)
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], text="/help", group=True, gateway=gateway) == 0
    assert "/reset" in stage.output


async def test_gateway_that_is_not_running(stage: Stage) -> None:
    code = await stage.simulate([feishu_bot(stage.simulator)], gateway="http://127.0.0.1:9")
    assert code == 1
    assert "no gateway answers at http://127.0.0.1:9/webhooks/feishu/team" in stage.output


async def test_refused_delivery_is_repeated_until_time_is_up(stage: Stage) -> None:
    bot = feishu_bot(stage.simulator)
    async with stage.gateway(feishu_bot(stage.simulator, encrypt_key="another-key")) as gateway:
        assert await stage.simulate([bot], gateway=gateway, timeout_s=1.0) == 1
    assert "delivery 1: HTTP status 403" in stage.output
    assert "no answer after 1 s" in stage.output


async def test_bot_of_the_real_feishu_is_refused(stage: Stage) -> None:
    bot = feishu_bot("https://open.feishu.cn")
    assert await stage.simulate([bot], simulator=stage.simulator) == 1
    assert "https://open.feishu.cn, which isn't a simulator on this machine. Nothing was sent." in stage.output


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:9", "http://localhost:9"])
async def test_address_without_simulator_is_refused(stage: Stage, base_url: str) -> None:
    assert await stage.simulate([feishu_bot(base_url)]) == 1
    assert "no simulator answers" in stage.output
    assert "Nothing was sent." in stage.output


async def test_server_that_is_no_simulator_is_refused(stage: Stage) -> None:
    bot = feishu_bot(stage.simulator)
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([feishu_bot(gateway)], gateway=gateway) == 1
    assert "Nothing was sent." in stage.output
    assert not stage.feishu.messages


async def test_another_simulator_is_refused(stage: Stage) -> None:
    assert await stage.simulate([feishu_bot(stage.simulator)], simulator="http://127.0.0.1:1") == 1
    assert "not to the simulator at http://127.0.0.1:1" in stage.output


async def test_same_simulator_by_another_name_is_accepted(stage: Stage) -> None:
    bot = feishu_bot(stage.simulator)
    name = stage.simulator.replace("127.0.0.1", "localhost")
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], gateway=gateway, simulator=name) == 0


async def test_app_that_the_simulator_does_not_know_is_refused(stage: Stage) -> None:
    assert await stage.simulate([feishu_bot(stage.simulator, app_secret="wrong-secret")]) == 1
    assert "doesn't know the app 'cli_simulator'" in stage.output
    assert "wrong-secret" not in stage.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bot": "nobody"}, "no bot 'nobody' on feishu; there are: team, other"),
        ({}, "choose one with --bot: team, other"),
        ({"platform": "wechat"}, "no bot on wechat"),
        ({"platform": "icq"}, "'icq' can't be simulated"),
    ],
)
async def test_bot_must_be_clear(stage: Stage, options: dict[str, str], message: str) -> None:
    bots = [feishu_bot(stage.simulator), feishu_bot(stage.simulator, "other")]
    assert await stage.simulate(bots, **options) == 1
    assert message in stage.output


async def test_lost_acknowledgements_and_answers_show_one_answer(stage: Stage) -> None:
    """One answer, although the event comes three times under new ids and the outcome of the first send is unknown."""
    bot = feishu_bot(stage.simulator)
    said = stage.feishu.user_says(text_content("once"), chat_id="oc_1", sender="ou_1")
    event = message_event(stage.feishu.app, "a-verification-token", said)
    stage.feishu.lose_next_answer("reply")
    async with stage.gateway(bot) as gateway:
        webhook = Webhook(f"{gateway}/webhooks/feishu/team", "an-encrypt-key", "a-verification-token")
        pusher = FeishuPusher(webhook, timings=Timings(retry_after_s=()))
        for number in range(3):
            header = {**event["header"], "event_id": f"event-{number}"}
            assert (await pusher.push({**event, "header": header})).acknowledged
        async with asyncio.timeout(15):
            while stage.feishu.calls["reply"] < 2:
                await asyncio.sleep(0.02)
        await pusher.aclose()
    assert len(stage.feishu.seen_in("oc_1")) == 1
    assert len(stage.llm.calls) == 1


async def test_own_id_that_cannot_be_learned_is_a_503(stage: Stage) -> None:
    bot = feishu_bot(stage.simulator)
    async with stage.gateway(bot) as gateway:
        stage.feishu.fail_next("info", APIError(2200, "internal error", 500), times=2)
        said = stage.feishu.user_says(text_content("@_user_1 hi"), chat_id="oc_1", sender="ou_1")
        event = message_event(
            stage.feishu.app,
            "a-verification-token",
            said,
            group=True,
            mentions=[Mentioned(stage.feishu.app.bot_open_id, "Parley")],
        )
        webhook = Webhook(f"{gateway}/webhooks/feishu/team", "an-encrypt-key", "a-verification-token")
        pusher = FeishuPusher(webhook, timings=Timings(retry_after_s=(0.01, 0.01)))
        delivery = await pusher.push(event)
        await pusher.aclose()
    assert [step.status for step in delivery.steps] == [503, 503, 200]
