"""What users may do and what it may cost, through three real processes and both simulated platforms."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from parley_gateway.simulators.feishu.cloud import SimulatedMessage

from tests.e2e import feishu_user
from tests.e2e.stack import Options, Stack, start_stack
from tests.e2e.waiting import eventually
from tests.fakes.openai_upstream import delta, stream, words

pytestmark = pytest.mark.e2e

TEAM: dict[str, Any] = {
    "models": ["big"],
    "admins": ["ou_admin"],
    "deny": {"users": ["ou_denied"]},
    "limits": {"tokens_per_user_day": 10_000},
}


def told(stack: Stack, number: int) -> str:
    """What the model was told in a call."""
    return str(stack.upstream.requests[number].json["messages"])


def shown(stack: Stack, chat: str) -> list[str]:
    return [
        feishu_user.card_text(message) if message.msg_type == "interactive" else message.content
        for message in stack.feishu.seen_in(chat)
    ]


def written(stack: Stack, text: str) -> SimulatedMessage:
    return next(each for each in stack.feishu.messages.values() if text in each.content)


async def test_feishu_conversation_is_chosen_quoted_recalled_and_guarded(tmp_path: Path) -> None:
    async with start_stack(tmp_path, Options(wechat=None, bot=TEAM, feishu={"streaming": False})) as stack:
        # Only an admin chooses.
        await feishu_user.say(stack, "/model big")
        await eventually(lambda: "administrators" in str(shown(stack, "oc_user")))
        await feishu_user.say(stack, "/model big", sender="ou_admin")
        await eventually(lambda: "uses big" in str(shown(stack, "oc_user")))

        # What somebody else wrote is quoted.
        elsewhere = stack.feishu.user_says('{"text": "the moon is made of cheese"}', chat_id="oc_user", sender="ou_2")
        await feishu_user.say(stack, "is that true?", quotes=elsewhere.message_id)
        await eventually(lambda: "Hello from the model." in str(shown(stack, "oc_user")))
        assert stack.upstream.requests[0].json["model"] == "big-model"
        assert "> the moon is made of cheese" in told(stack, 0)

        # A recalled turn is gone, a running one is cancelled down to the upstream.
        await feishu_user.recall(stack, written(stack, "is that true?"))
        stack.upstream.replies = [stream(delta("", role="assistant"), delta("half an answer"), "stall")]
        await feishu_user.say(stack, "a long story")
        request = (await eventually(lambda: stack.upstream.requests[1:]))[0]
        assert "is that true?" not in told(stack, 1)
        await feishu_user.recall(stack, written(stack, "a long story"))
        async with asyncio.timeout(10):
            await request.closed.wait()
        assert "half an answer" not in str(shown(stack, "oc_user"))

        # Who may not use the bot is told once, and nothing of theirs reaches the model.
        for chat, options in (("oc_denied", {"sender": "ou_denied"}), ("oc_abroad", {"tenant": "tenant_2"})):
            for _ in range(2):
                await feishu_user.say(stack, "let me in", chat=chat, **options)
            (text,) = await eventually(lambda chat=chat: shown(stack, chat))  # type: ignore[misc]
            assert "not open to you" in text
        assert len(stack.upstream.requests) == 2


async def test_wechat_user_is_limited_joined_and_forgotten(tmp_path: Path) -> None:
    bot = {"bursts": "join", "join_within": "1s", "limits": {"messages_per_user_minute": 6}}
    async with start_stack(tmp_path, Options(wechat={"app_secret": None}, feishu=None, bot=bot)) as stack:
        pusher = stack.wechat_pusher()
        stack.upstream.replies = [stream(*words("One answer.")), stream(*words("Nice to meet you."))]
        first, second = await asyncio.gather(pusher.say("user-1", "my name"), _later(pusher.say("user-1", "is Ann")))
        assert (first.text, second.text) == ("", "One answer.")
        assert "my name\\\\nis Ann" in told(stack, 0) or "my name\\nis Ann" in told(stack, 0)

        # A user who leaves is forgotten.
        await pusher.event("user-1", "unsubscribe")
        assert (await pusher.say("user-1", "who am I?")).text == "Nice to meet you."
        assert "Ann" not in told(stack, 1)
        assert "erased" in (await pusher.say("user-1", "/forget")).text

        # Whoever writes too much is told so once, in the answer to the request.
        answers = await asyncio.gather(*(pusher.say("user-2", f"message {n}") for n in range(9)))
        texts = [each.text for each in answers if each.text]
        assert sum("too much at once" in text for text in texts) == 1
        assert not any(each.failed for each in answers)
        assert texts.count("Nice to meet you.") == 1, "six messages, one answer"


async def _later(sending: Any) -> Any:
    await asyncio.sleep(0.3)
    return await sending
