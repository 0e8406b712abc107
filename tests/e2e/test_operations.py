"""What an operator does at 3 a.m., on real processes: explain, replay, pause, restart, sit an outage out."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.stack import Options, Stack, start_stack
from tests.e2e.test_messages import metrics, pushed
from tests.e2e.waiting import eventually
from tests.fakes.openai_upstream import stall, status, stream, words

pytestmark = pytest.mark.e2e

TOKEN = "e2e-gateway-admin-token"
OPERATED = {"admin_token": TOKEN}


async def command(stack: Stack, *arguments: str, token: str = TOKEN) -> tuple[int, str, str]:
    """Run `parley-gateway` as an operator does; return exit code, output and complaints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "parley_gateway", *arguments,
        env={
            "PATH": "", "PARLEY_GATEWAY_OPS_URL": f"http://{stack.gateway.started['ops']}",
            "PARLEY_GATEWAY_ADMIN_TOKEN": token, "http_proxy": "http://127.0.0.1:1",
        },
        cwd=stack.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def operated(tmp_path: Path) -> AsyncIterator[Stack]:
    async with start_stack(tmp_path, Options(gateway=OPERATED, feishu=None)) as stack:
        yield stack


async def test_failed_message_is_explained_by_the_users_id_and_replayed(operated: Stack) -> None:
    stack = operated
    stack.upstream.replies = [status(401, {"x-request-id": "req-upstream-7"}, message="a word of the SECRET question")]
    await stack.wechat_pusher().say("user-1", "SECRET question")
    (sentence,) = await eventually(lambda: pushed(stack, "user-1"))
    found = re.search(r"Reference: (\w{8})\)", sentence)
    assert found is not None
    reference = found[1]
    code, out, _ = await command(stack, "explain", reference)
    assert code == 0
    for told in (
        "accepted and stored", "a worker began", "reason=UPSTREAM_AUTH", "upstream=main", "attempts=1",
        "upstream_request_id=req-upstream-7", f"request_id={reference}", "part sent", "dead letters: llm",
    ):  # fmt: skip
        assert told in out, out
    assert "SECRET" not in out
    assert reference in (await command(stack, "dead-letters", "list"))[1]
    stack.upstream.replies = [stream(*words("At last."))]
    for outcome in ("replayed", "already replayed"):
        assert (await command(stack, "dead-letters", "replay", reference))[:2] == (0, f"{reference}  {outcome}\n")
    await eventually(lambda: pushed(stack, "user-1")[1:] == ["At last."])
    assert (await command(stack, "dead-letters", "list"))[1] == "There are no dead letters.\n"
    log = stack.gateway.log()
    assert '"call": "dead_letters.replay"' in log
    assert TOKEN not in log
    assert "SECRET" not in log


async def test_delivered_message_is_explained_by_the_platforms_id(operated: Stack) -> None:
    stack = operated
    await stack.wechat_pusher().say("user-1", "hi")
    await eventually(lambda: pushed(stack, "user-1"))
    (accepted,) = await eventually(lambda: re.findall(r'"message_id": "(\d+)"', stack.gateway.log())[:1])
    code, out, _ = await command(stack, "explain", accepted)
    assert code == 0
    assert "the model answered" in out
    assert "upstream=main" in out
    assert "outcome=delivered" in out


async def test_wrong_token_and_stopped_gateway_are_said(operated: Stack) -> None:
    stack = operated
    code, _, err = await command(stack, "status", token="not-the-token-at-all")
    assert (code, err) == (1, "the admin token is missing or wrong: it is gateway.admin_token\n")
    assert '"outcome": "refused"' in stack.gateway.log()
    await stack.gateway.stop()
    code, _, err = await command(stack, "status")
    assert code == 1
    assert "can't be reached" in err


async def test_paused_bot_tells_users_and_answers_when_it_is_resumed(tmp_path: Path) -> None:
    options = Options(gateway=OPERATED, wechat={"app_secret": None}, feishu=None)
    async with start_stack(tmp_path, options) as stack:
        assert (await command(stack, "pause", "default", "--notice", "Back at noon."))[0] == 0
        assert 'parley_gateway_bot_paused{bot="default",platform="wechat"} 1.0' in (
            await metrics(stack.gateway.started["ops"])
        )
        pusher = stack.wechat_pusher()
        told = await pusher.say("user-1", "hi")
        assert told.text.startswith("Back at noon.")
        assert len(told.steps) == 1
        (link,) = told.links
        await asyncio.sleep(1)
        assert stack.upstream.requests == []
        assert "paused        wechat/default" in (await command(stack, "status"))[1]
        assert (await command(stack, "resume", "default"))[0] == 0
        await eventually(lambda: stack.upstream.requests, within_s=10)
        answer = await pusher.tap("user-1", link)
        assert answer.text.endswith("Hello from the model.")


async def test_restart_loses_nothing_and_the_next_process_goes_on_at_once(tmp_path: Path) -> None:
    # A lease that outlasts the test: only handing lanes over lets anybody else go on.
    gateway = {**OPERATED, "lease": "600s", "shutdown": {"drain": "1s", "grace": "20s"}}
    async with start_stack(tmp_path, Options(gateway=gateway, feishu=None)) as stack:
        stack.upstream.replies = [stream(1.5, *words("slow")), stream(*words("quick"))]
        pusher = stack.wechat_pusher()
        for number in range(3):
            await pusher.say("user-1", f"question {number}")
        await eventually(lambda: stack.upstream.requests)
        stopping = asyncio.create_task(stack.gateway.stop())
        await eventually(lambda: '"event": "stopping"' in stack.gateway.log())
        # Not ready any more, but whoever still comes is served: stored, and acknowledged.
        late = await pusher.say("user-2", "while it drains")
        assert late.steps[0].body == b"success"
        assert await stopping == 0
        assert pushed(stack, "user-1") == ["slow"]
        assert len(stack.upstream.requests) == 1
        await stack.gateway.start()
        await eventually(lambda: len(pushed(stack, "user-1")) == 3 and len(pushed(stack, "user-2")) == 1, within_s=15)
        asked = [request.json["messages"][-1]["content"] for request in stack.upstream.requests]
        assert [question for question in asked if question != "while it drains"] == [
            "question 0", "question 1", "question 2",
        ]  # fmt: skip


async def test_answer_that_outlasts_the_grace_is_begun_again_by_the_next_process(tmp_path: Path) -> None:
    gateway = {**OPERATED, "lease": "600s", "shutdown": {"drain": "0s", "grace": "200ms"}}
    async with start_stack(tmp_path, Options(gateway=gateway, feishu=None)) as stack:
        stack.upstream.replies = [stall()]
        await stack.wechat_pusher().say("user-1", "hi")
        await eventually(lambda: stack.upstream.requests)
        assert await stack.gateway.stop() == 0
        stack.upstream.replies = [stream(*words("Again."))]
        await stack.gateway.start()
        assert await eventually(lambda: pushed(stack, "user-1"), within_s=15) == ["Again."]


async def test_outage_of_every_upstream_is_told_at_once_and_passes(tmp_path: Path) -> None:
    model = {"circuit": {"failures": 2, "open_for": "4s"}, "retry": {"max_attempts": 1}}
    async with start_stack(tmp_path, Options(gateway=OPERATED, model=model, feishu=None)) as stack:
        stack.upstream.replies = [status(503)]
        pusher = stack.wechat_pusher()
        for user in ("early-1", "early-2"):
            await pusher.say(user, "asked when it began")
        await eventually(lambda: stack.gateway.log().count('"event": "failed"') >= 2)
        await pusher.say("new", "asked while it lasts")
        (busy,) = await eventually(lambda: pushed(stack, "new"), within_s=3)
        assert busy.startswith("The AI model can't be reached right now.")
        assert "chat: out of reach (CIRCUIT_OPEN)" in (await command(stack, "status"))[1]
        stack.upstream.replies = [stream(*words("Back."))]
        await eventually(lambda: pushed(stack, "early-1") and pushed(stack, "early-2"))
        assert pushed(stack, "early-1") == pushed(stack, "early-2") == ["Back."]
        listed = (await command(stack, "dead-letters", "list", "--reason", "busy"))[1]
        assert len(listed.splitlines()) == 1
        assert (await command(stack, "dead-letters", "replay", "--reason", "busy"))[0] == 0
        await eventually(lambda: pushed(stack, "new")[1:] == ["Back."])
