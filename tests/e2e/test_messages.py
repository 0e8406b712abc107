"""A message's way through three real processes and back to its user."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from tests.e2e import feishu_user
from tests.e2e.stack import SECRETS, Options, Stack, start_stack
from tests.e2e.waiting import eventually
from tests.fakes.openai_upstream import delta, status, stream, words

pytestmark = pytest.mark.e2e


async def metrics(address: str) -> str:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://{address}/metrics")).text


def pushed(stack: Stack, openid: str) -> list[str]:
    return [seen.text for seen in stack.wechat.seen_by(openid) if seen.via == "push"]


async def test_wechat_message_is_acknowledged_then_answered_by_push(stack: Stack) -> None:
    delivery = await stack.wechat_pusher().say("user-1", "hi")
    assert delivery.steps[0].body == b"success"
    assert len(delivery.steps) == 1
    texts = await eventually(lambda: pushed(stack, "user-1"))
    assert texts == ["Hello from the model."]
    (request,) = stack.upstream.requests
    assert request.json["messages"][-1] == {"role": "user", "content": "hi"}


async def test_feishu_message_is_answered_with_a_card_once(stack: Stack) -> None:
    delivery = await feishu_user.say(stack, "hi")
    assert delivery.acknowledged
    assert len(delivery.steps) == 1
    (message,) = await eventually(lambda: stack.feishu.seen_in("oc_user"))
    assert message.msg_type == "interactive"
    # The card is seen while it is being written.
    await eventually(lambda: "Hello from the model." in feishu_user.card_text(stack.feishu.seen_in("oc_user")[0]))
    assert len(stack.feishu.seen_in("oc_user")) == 1


async def test_history_and_commands(stack: Stack) -> None:
    pusher = stack.wechat_pusher()
    await pusher.say("user-1", "the earliest")
    await eventually(lambda: len(pushed(stack, "user-1")) == 1)
    await pusher.say("user-1", "second")
    await eventually(lambda: len(pushed(stack, "user-1")) == 2)
    told = [message["content"] for message in stack.upstream.requests[1].json["messages"]]
    assert told[-3:] == ["the earliest", "Hello from the model.", "second"]
    await pusher.say("user-1", "/reset")
    await eventually(lambda: len(pushed(stack, "user-1")) == 3)
    await pusher.say("user-1", "/help")
    await eventually(lambda: len(pushed(stack, "user-1")) == 4)
    assert "forgotten" in pushed(stack, "user-1")[2]
    assert "/stop" in pushed(stack, "user-1")[3]
    await pusher.say("user-1", "third")
    await eventually(lambda: len(pushed(stack, "user-1")) == 5)
    assert "the earliest" not in str(stack.upstream.requests[2].json["messages"])


async def test_stop_closes_the_upstream_connection(stack: Stack) -> None:
    stack.upstream.replies = [stream(delta("", role="assistant"), delta("half an answer"), "stall")]
    pusher = stack.wechat_pusher()
    await pusher.say("user-1", "a long story")
    (request,) = await eventually(lambda: stack.upstream.requests)
    await asyncio.sleep(0.3)
    await pusher.say("user-1", "/stop")
    async with asyncio.timeout(10):
        await request.closed.wait()
    await eventually(lambda: len(pushed(stack, "user-1")) == 2)
    assert sorted(pushed(stack, "user-1")) == ["Stopped.", "half an answer\n\n(stopped)"]


async def test_upstream_failure_for_good_is_told_with_an_id(stack: Stack) -> None:
    stack.upstream.replies = [status(401)]
    await stack.wechat_pusher().say("user-1", "hi")
    (text,) = await eventually(lambda: pushed(stack, "user-1"))
    assert text.startswith("Sorry, I could not answer that.")
    assert "Reference:" in text


async def test_llm_service_that_is_away_is_waited_for(stack: Stack) -> None:
    await stack.llm.stop()
    await stack.wechat_pusher().say("user-1", "hi")
    await asyncio.sleep(1)
    assert pushed(stack, "user-1") == []
    # The same port again, as a Service of Kubernetes has the same name again.
    port = stack.llm.started["grpc"].rpartition(":")[2]
    stack.llm._env["PARLEY_LLM_GRPC_PORT"] = port
    await stack.llm.start()
    assert await eventually(lambda: pushed(stack, "user-1"), within_s=30) == ["Hello from the model."]


@pytest.mark.parametrize("encryption", ["plain", "compat", "safe"])
async def test_every_mode_of_wechat_inline(tmp_path: Path, encryption: str) -> None:
    options = Options(wechat={"app_secret": None, "encryption": encryption}, feishu=None)
    async with start_stack(tmp_path, options) as stack:
        pusher = stack.wechat_pusher(encryption)  # type: ignore[arg-type]
        assert not (await pusher.check_url()).problem
        delivery = await pusher.say("user-1", "hi")
        assert delivery.text == "Hello from the model."
        assert (await pusher.event("user-2", "subscribe")).text
        assert not (await pusher.event("user-1", "some_new_event")).failed


async def test_account_that_may_not_push_turns_to_inline(tmp_path: Path) -> None:
    async with start_stack(tmp_path, Options(verified=False, feishu=None)) as stack:
        pusher = stack.wechat_pusher()
        first = await pusher.say("user-1", "first")
        assert first.text == ""
        await eventually(lambda: "kept_for_later" in stack.gateway.log())
        stack.upstream.replies = [stream(*words("The second answer."))]
        second = await pusher.say("user-1", "second")
        # The answer that could not be pushed comes first, then the way to the new one.
        assert "Hello from the model." in second.text
        (link,) = second.links
        assert (await pusher.tap("user-1", link)).text == "[second]\nThe second answer."
        third = await pusher.say("user-1", "third")
        assert third.text == "The second answer."
        assert not any(seen.kind == "banner" for seen in stack.wechat.seen_by("user-1"))


async def test_everything_works_with_a_dead_proxy_and_kubernetes_variables(tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9"
    env = {
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "grpc_proxy"), dead),
        "PARLEY_GATEWAY_PORT": "tcp://10.0.0.1:8080",
        "PARLEY_LLM_PORT": "tcp://10.0.0.2:50051",
        "PARLEY_FORMATTER_PORT": "tcp://10.0.0.3:50052",
        "PARLEY_LLM_SERVICE_PORT": "50051",
    }
    async with start_stack(tmp_path, Options(env=env)) as stack:
        await stack.wechat_pusher().say("user-1", "hi")
        await feishu_user.say(stack, "hi")
        assert await eventually(lambda: pushed(stack, "user-1")) == ["Hello from the model."]
        await eventually(lambda: stack.feishu.seen_in("oc_user"))


async def test_refused_requests_queue_nothing_and_leak_nothing(stack: Stack) -> None:
    wechat, feishu = stack.url("wechat"), stack.url("feishu")
    async with httpx2.AsyncClient(trust_env=False) as client:
        answers = [
            await client.post(wechat, content=b"<xml/>"),
            await client.post(
                wechat, params={"signature": "0" * 40, "timestamp": "1", "nonce": "2"}, content=b"<xml/>"
            ),
            await client.post(wechat, content=b"x" * (2 * 1024 * 1024)),
            await client.post(feishu, content=b'{"encrypt":"AAAA"}'),
            await client.post(feishu, content=b"<xml><a/></xml>"),
            await client.get(feishu),
        ]
        assert all(400 <= answer.status_code < 500 for answer in answers), [answer.text for answer in answers]
        assert (await client.get(f"http://{stack.gateway.started['http']}/webhooks/wechat/nobody")).status_code == 404
    text = await metrics(stack.gateway.started["ops"])
    assert "parley_queue_depth 0.0" in text
    assert 'outcome="rejected_signature"' in text
    await stack.wechat_pusher().say("user-1", "a question with words that nobody else says")
    await eventually(lambda: pushed(stack, "user-1"))
    for process in stack.processes:
        log = process.log()
        assert not [secret for secret in SECRETS if secret in log], process.name
        assert "words that nobody else says" not in log
        assert "Hello from the model" not in log
