"""One server for all simulated platforms, with what each needs from outside."""

import subprocess
import sys

import httpx2
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.server import create_app, running
from parley_gateway.simulators.wechat.cloud import WeChatCloud


async def test_both_platforms_on_one_server() -> None:
    wechat, feishu = WeChatCloud(), FeishuCloud()
    async with running(create_app(wechat, feishu)) as url, httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.get("/_simulator/")).json()["platforms"] == ["wechat", "feishu"]
        assert (await client.post("/cgi-bin/stable_token", content=b"{}")).json()["errcode"] == 40002
        token = await client.post("/open-apis/auth/v3/tenant_access_token/internal", json={})
        assert token.json()["code"] != 0


async def test_feishu_users_talk_and_see_over_the_control_routes() -> None:
    feishu = FeishuCloud()
    async with running(create_app(feishu=feishu)) as url, httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        said = {"content": '{"text":"hi"}', "chat_id": "oc_1", "sender": "ou_1"}
        message_id = (await client.post("/_simulator/feishu/messages", json=said)).json()["message_id"]
        feishu.reply(message_id, {"msg_type": "text", "content": '{"text":"hello"}'})
        (seen,) = (await client.get("/_simulator/feishu/chats/oc_1")).json()["messages"]
        assert (seen["content"], seen["parent_id"]) == ('{"text":"hello"}', message_id)
        lacking = await client.post("/_simulator/feishu/messages", json={"chat_id": "oc_1"})
        assert lacking.status_code == 400


async def test_only_what_is_simulated_is_served() -> None:
    async with running(create_app()) as url, httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.get("/_simulator/")).json()["platforms"] == []
        assert (await client.post("/cgi-bin/stable_token")).status_code == 404
        assert (await client.get("/_simulator/wechat/users/o1")).status_code == 404


def test_simulators_use_no_platform_code() -> None:
    code = (
        "import sys, parley_gateway.simulators.server, parley_gateway.simulators.wechat.pusher;"
        "unwanted = ('parley_gateway.platforms', 'wechatpy', 'lark_oapi');"
        "print([name for name in sys.modules if name.startswith(unwanted)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.strip() == "[]"
