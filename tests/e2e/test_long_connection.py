"""Feishu's events over the long connection, through three real processes."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from parley_gateway.simulators.feishu.cloud import SimulatedMessage
from parley_gateway.simulators.feishu.events import button_values, click_event, message_event, text_content
from parley_gateway.simulators.feishu.long_connection import ConnectionRules

from tests.e2e import feishu_user
from tests.e2e.stack import SECRETS, Options, Stack, start_stack
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

CONNECTED = {"mode": "long_connection", "encrypt_key": None, "verification_token": None}


def said(stack: Stack, text: str) -> dict[str, Any]:
    """Return the event of a user's message."""
    message = stack.feishu.user_says(text_content(text), chat_id="oc_user", sender="ou_user")
    return message_event(stack.feishu.app, "", message)


def _button(card: SimulatedMessage, does: str) -> Mapping[str, Any] | None:
    """Return the value of a card's button, None while the card hasn't got it."""
    return next((value for value in button_values(json.loads(card.content)) if value["parley"] == does), None)


async def ops(stack: Stack, path: str) -> str:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://{stack.gateway.started['ops']}/{path}")).text


async def test_message_is_answered_the_connection_watched_and_the_stop_orderly(tmp_path: Path) -> None:
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    options = Options(wechat=None, feishu=CONNECTED, gateway={"log_level": "debug"}, env=dead)
    async with start_stack(tmp_path, options) as stack:
        await eventually(lambda: stack.connections.connections)
        assert (await stack.connections.deliver(said(stack, "hi"))).acknowledged
        seen = stack.feishu.seen_in
        await eventually(lambda: "Hello from the model." in "".join(map(feishu_user.card_text, seen("oc_user"))))
        (card,) = seen("oc_user")
        value = await eventually(lambda: _button(card, "good"))
        assert value is not None
        click = click_event(stack.feishu.app, "", card, value, open_id="ou_user")
        (step,) = (await stack.connections.deliver(click)).steps
        assert (step.status, json.loads(step.body)["toast"]["type"]) == (200, "success")
        assert step.duration_s < 3
        up = 'parley_gateway_connection_up{bot="default",platform="feishu"}'
        assert f"{up} 1.0" in await ops(stack, "metrics")
        assert json.loads(await ops(stack, "readyz")) == {"ready": True, "reasons": []}

        stack.connections.rules = ConnectionRules(max_connections=0)
        await stack.connections.cut()
        async with asyncio.timeout(20):
            while "notes" not in (told := json.loads(await ops(stack, "readyz"))):
                await asyncio.sleep(0.02)
        assert told == {"ready": True, "reasons": [], "notes": ["feishu/default: not connected"]}
        assert f"{up} 0.0" in await ops(stack, "metrics")

        stack.connections.rules = ConnectionRules(reconnect_nonce=1)
        await eventually(lambda: stack.connections.connections)
        assert await stack.gateway.stop() == 0
        await eventually(lambda: stack.connections.closed_with[-1:] == [1000])
        assert stack.connections.violations == []
        log = stack.gateway.log()
        assert "connection_lost" in log
        assert not [secret for secret in (*SECRETS, "ticket=") if secret in log]
