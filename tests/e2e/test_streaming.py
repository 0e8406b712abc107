"""An answer that is seen while it is written: Feishu's streaming card, with its buttons, over real processes."""

import asyncio
import itertools
import json
import time
from typing import Any

import pytest
from parley_gateway.simulators.feishu.cardkit import Entity
from parley_gateway.simulators.feishu.events import button_values, click_event

from tests.e2e import feishu_user
from tests.e2e.stack import FEISHU_VERIFICATION, Stack
from tests.e2e.test_messages import metrics
from tests.e2e.waiting import eventually
from tests.fakes.openai_upstream import Peer, delta, stall, status, stream, words

pytestmark = pytest.mark.e2e

CHAT = "oc_user"
SENTENCES = [f"This is sentence number {number} of the **answer**. " for number in range(8)]


def the_card(stack: Stack, chat: str = CHAT) -> Entity | None:
    """Return the card that the bot's one message in a chat shows."""
    seen = stack.feishu.seen_in(chat)
    assert len(seen) <= 1
    return stack.feishu.card_of(seen[0]) if seen else None


async def card_with_words(stack: Stack) -> Entity:
    """Return the card as soon as it shows words of the model."""

    def look() -> Entity | None:
        card = the_card(stack)
        return card if card is not None and card.texts else None

    card = await eventually(look)
    assert card is not None
    return card


def buttons(entity: Entity) -> dict[str, Any]:
    return {str(value["parley"]): value for value in button_values(entity.card)}


async def click(stack: Stack, name: str, *, user: str = "ou_user", chat: str = CHAT) -> str:
    """Click on a button of the bot's last card in a chat; return what the user is told."""
    message = stack.feishu.seen_in(chat)[-1]
    value = {each["parley"]: each for each in button_values(json.loads(message.content))}[name]
    event = click_event(stack.feishu.app, FEISHU_VERIFICATION, message, value, open_id=user)
    pusher = stack.feishu_pusher()
    try:
        step = (await pusher.push(event)).steps[0]
    finally:
        await pusher.aclose()
    assert step.acknowledged
    assert step.duration_s < 3.0
    return str(json.loads(step.body)["toast"]["content"])


async def test_card_appears_with_the_first_words_and_is_complete_in_the_end(stack: Stack) -> None:
    first_word = asyncio.Event()
    began = 0.0

    async def slowly(peer: Peer) -> None:
        nonlocal began
        began = time.monotonic()
        first_word.set()
        paced: list[bytes | float] = []
        for sentence in SENTENCES:
            paced += [delta(sentence), 0.25]
        await stream(*paced, *words()[1:])(peer)

    stack.upstream.replies = [slowly]
    await feishu_user.say(stack, "tell me")
    await first_word.wait()
    entity = await card_with_words(stack)
    # A third of a second on a machine with nothing else to do.
    assert time.monotonic() - began < 5
    assert "stop" in buttons(entity)
    message = stack.feishu.seen_in(CHAT)[0]
    await eventually(lambda: not stack.feishu.is_streaming(message))
    assert len(entity.texts) >= 4
    assert entity.jumps == 0
    for before, after in itertools.pairwise(entity.texts):
        assert after.startswith(before)
    assert feishu_user.card_text(stack.feishu.seen_in(CHAT)[0]).startswith("".join(SENTENCES).strip())
    assert set(buttons(entity)) == {"regenerate", "good", "bad"}
    assert stack.feishu.calls["reply"] == 1


async def test_killed_in_mid_stream_the_same_card_is_finished_once(stack: Stack) -> None:
    stack.upstream.replies = [stream(delta("The first words of it. And more"), 30.0)]
    await feishu_user.say(stack, "tell me")
    entity = await card_with_words(stack)
    await stack.gateway.kill()
    stack.upstream.replies = [stream(*words("Another answer."))]
    await stack.gateway.start()
    message = stack.feishu.seen_in(CHAT)[0]
    await eventually(lambda: not stack.feishu.is_streaming(message))
    assert the_card(stack) is entity
    assert feishu_user.card_text(stack.feishu.seen_in(CHAT)[0]).startswith("Another answer.")
    assert entity.sequence > 200_000, "the second worker's numbers are above the first one's"
    await asyncio.sleep(0.5)
    assert len(stack.feishu.seen_in(CHAT)) == 1
    assert len(stack.feishu.cardkit.entities) == 1
    assert len(stack.upstream.requests) == 2


async def test_stop_finishes_the_card_with_what_is_there(stack: Stack) -> None:
    stack.upstream.replies = [stream(delta("Some words that are there. "), 30.0)]
    await feishu_user.say(stack, "tell me")
    entity = await card_with_words(stack)
    assert await click(stack, "stop", user="ou_stranger") == "Only the person who asked can do that."
    assert await click(stack, "stop") == "Stopping."
    message = stack.feishu.seen_in(CHAT)[0]
    await eventually(lambda: not stack.feishu.is_streaming(message))
    shown = feishu_user.card_text(stack.feishu.seen_in(CHAT)[0])
    assert shown.startswith("Some words that are there")
    assert "(stopped)" in shown
    assert the_card(stack) is entity
    async with asyncio.timeout(5):
        await stack.upstream.requests[0].closed.wait()

    # And before the first word.
    stack.upstream.replies = [stall()]
    await feishu_user.say(stack, "tell me", chat="oc_silent")
    await eventually(lambda: the_card(stack, "oc_silent"))
    assert await click(stack, "stop", chat="oc_silent") == "Stopping."
    message = stack.feishu.seen_in("oc_silent")[0]
    await eventually(lambda: not stack.feishu.is_streaming(message))
    assert "Stopped." in stack.feishu.seen_in("oc_silent")[0].content


async def test_asking_again_rating_and_failing(stack: Stack) -> None:
    stack.upstream.replies = [stream(*words("The first answer."))]
    await feishu_user.say(stack, "tell me")
    await eventually(lambda: (card := the_card(stack)) is not None and "good" in buttons(card))
    await eventually(lambda: '"event": "replied"' in stack.gateway.log())
    assert await click(stack, "good", user="ou_somebody") == "Thank you!"
    assert await click(stack, "good", user="ou_somebody") == "That was done already."
    stack.upstream.replies = [stream(*words("The second answer."))]
    assert await click(stack, "regenerate") == "Asking again."
    await eventually(lambda: "The second answer." in str([each.content for each in stack.feishu.seen_in(CHAT)]))
    await eventually(lambda: not any(map(stack.feishu.is_streaming, stack.feishu.seen_in(CHAT))))
    assert len(stack.upstream.requests) == 2
    asked = stack.upstream.requests[1].json["messages"]
    assert "The first answer." not in str(asked)
    assert asked[-1]["content"] == "tell me"
    stack.upstream.replies = [stream(*words("Third."))]
    await feishu_user.say(stack, "and now?")
    await eventually(lambda: len(stack.upstream.requests) == 3)
    history = str(stack.upstream.requests[2].json["messages"])
    assert "The second answer." in history
    assert "The first answer." not in history
    text = await metrics(stack.gateway.started["ops"])
    assert 'parley_gateway_feedback_total{bot="default",platform="feishu",value="up"} 1.0' in text

    # A failure is told on the card, with the id that an operator can look for.
    stack.upstream.replies = [status(400, message="no", type="invalid_request_error")]
    await feishu_user.say(stack, "tell me", chat="oc_failed")
    await eventually(lambda: "Reference: " in str([each.content for each in stack.feishu.seen_in("oc_failed")]))
    (failed,) = stack.feishu.seen_in("oc_failed")
    await eventually(lambda: not stack.feishu.is_streaming(failed))
    assert "Thinking" not in failed.content
