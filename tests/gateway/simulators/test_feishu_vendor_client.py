"""lark-oapi's own WebSocket client against the simulator: what the vendor's client does, the simulator must accept."""

import asyncio
import subprocess
import sys

import pytest
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.events import event, message_event, text_content
from parley_gateway.simulators.feishu.long_connection import ConnectionRules, LongConnections
from parley_gateway.simulators.feishu.pusher import Timings
from parley_gateway.simulators.server import create_app, running

from tests.e2e.waiting import eventually

PROGRAM = """
import sys, lark_oapi
from lark_oapi.event.callback.model.p2_card_action_trigger import P2CardActionTriggerResponse

def message(data):
    print("message", data.event.message.message_id, flush=True)

def click(data):
    return P2CardActionTriggerResponse({"toast": {"type": "info", "content": "stopped"}})

handler = (
    lark_oapi.EventDispatcherHandler.builder("", "")
    .register_p2_im_message_receive_v1(message)
    .register_p2_card_action_trigger(click)
    .build()
)
lark_oapi.ws.Client("cli_simulator", "simulator-app-secret", event_handler=handler, domain=sys.argv[1]).start()
"""


@pytest.mark.slow
async def test_vendors_client_connects_answers_and_breaks_no_rule() -> None:
    cloud = FeishuCloud()
    feishu = LongConnections(
        cloud, rules=ConnectionRules(ping_interval=1, part_bytes=100), timings=Timings(retry_after_s=(0.01,))
    )
    async with running(create_app(feishu=cloud, connections=feishu)) as address:
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-c", PROGRAM, address, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert client.stdout is not None
        try:
            await eventually(lambda: feishu.connections, within_s=50)
            said = cloud.user_says(text_content("hi"), chat_id="oc_1", sender="ou_1")
            assert (await feishu.deliver(message_event(cloud.app, "", said))).acknowledged
            async with asyncio.timeout(10):
                while (line := (await client.stdout.readline()).decode()) and not line.startswith("message"):
                    continue
            assert line == f"message {said.message_id}\n"
            click = event(cloud.app, "", "card.action.trigger", {"action": {"tag": "button", "value": {"stop": "1"}}})
            (step,) = (await feishu.deliver(click)).steps
            assert (step.status, b"stopped" in step.body) == (200, True)
            unknown = await feishu.deliver(event(cloud.app, "", "im.chat.updated_v1", {}))
            assert [each.status for each in unknown.steps] == [500, 500]
            await eventually(lambda: feishu.connections[0].pings >= 3)
            assert feishu.violations == []
        finally:
            client.kill()
            await client.wait()
