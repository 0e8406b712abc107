"""Secrets and bots that change while the gateway runs, seen by the platforms and their users."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import replace
from os import kill
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from parley_gateway.simulators.wechat.pusher import WeChatPusher

from tests.e2e import feishu_user
from tests.e2e.processes import ServiceProcess
from tests.e2e.stack import AES_KEY, CALLER_KEY, Options, Stack, start_stack
from tests.e2e.test_messages import metrics, pushed
from tests.e2e.waiting import eventually
from tests.fakes.mounted_files import MountedFiles
from tests.fakes.openai_upstream import Peer, stream, words

pytestmark = pytest.mark.e2e

OLD_TOKEN, NEW_TOKEN = "wechat-token-of-old", "wechat-token-new-one"
OLD_SECRET, NEW_SECRET = "e2e-feishu-app-secret", "feishu-app-secret-new"


def pusher(stack: Stack, token: str) -> WeChatPusher:
    """Return WeChat, signing with this token."""
    usual = stack.wechat_pusher()
    return WeChatPusher(replace(usual.webhook, token=token), stack.wechat)


def change(process: ServiceProcess, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the service's section of its settings file and have it looked at."""
    file = process.folder / f"{process.name}.yaml"
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    edit(document[process.name])
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    kill(process.pid, signal.SIGHUP)


def count(process: ServiceProcess, event: str) -> int:
    return process.log().count(f'"event": "{event}"')


async def test_mounted_secrets_are_swapped_while_a_message_is_in_work(tmp_path: Path) -> None:
    secrets = MountedFiles(tmp_path / "secrets", wechat=OLD_TOKEN, feishu=OLD_SECRET)
    options = Options(
        wechat={"token": f"${{file:{secrets.path('wechat')}}}"},
        feishu={"app_secret": f"${{file:{secrets.path('feishu')}}}"},
    )
    async with start_stack(tmp_path, options) as stack:
        finish = asyncio.Event()

        async def answer(peer: Peer) -> None:
            await finish.wait()
            await stream(*words("The answer."))(peer)

        stack.upstream.replies = [answer]
        assert (await pusher(stack, OLD_TOKEN).say("user-1", "before")).steps[0].status == 200
        assert (await feishu_user.say(stack, "before", chat="oc_1")).acknowledged
        await eventually(lambda: len(stack.upstream.requests) == 2)

        # No signal: the gateway notices by itself that the mounted directory has changed.
        secrets.update(wechat=NEW_TOKEN, feishu=NEW_SECRET)
        await eventually(lambda: count(stack.gateway, "settings_reloaded"))
        assert (await pusher(stack, OLD_TOKEN).say("user-2", "forged")).steps[0].status == 403
        assert (await pusher(stack, NEW_TOKEN).say("user-3", "after")).steps[0].status == 200
        finish.set()
        assert await eventually(lambda: pushed(stack, "user-1")) == ["The answer."]
        assert await eventually(lambda: pushed(stack, "user-3")) == ["The answer."]
        await eventually(lambda: stack.feishu.seen_in("oc_1"))
        assert pushed(stack, "user-2") == []

        stack.feishu.app = replace(stack.feishu.app, app_secret=NEW_SECRET)
        stack.feishu.expire_tokens()
        assert (await feishu_user.say(stack, "after", chat="oc_2")).acknowledged
        await eventually(lambda: stack.feishu.seen_in("oc_2"))
        log = stack.gateway.log()
    assert not [secret for secret in (OLD_TOKEN, NEW_TOKEN, OLD_SECRET, NEW_SECRET) if secret in log]


async def test_bots_and_keys_change_and_mistakes_do_not(stack: Stack) -> None:
    # The gateway's key at the LLM service, in the order an operator takes: accept both, send the new one, drop the old.
    new_key = "gateway-caller-key-new"
    change(stack.llm, lambda llm: llm["callers"][0].update(keys=[CALLER_KEY, new_key]))
    await eventually(lambda: count(stack.llm, "settings_reloaded") == 1)
    change(stack.gateway, lambda gateway: gateway["llm"].update(key=new_key))
    await eventually(lambda: count(stack.gateway, "settings_reloaded") == 1)
    change(stack.llm, lambda llm: llm["callers"][0].update(keys=[new_key]))
    await eventually(lambda: count(stack.llm, "settings_reloaded") == 2)
    await stack.wechat_pusher().say("user-1", "hi")
    assert await eventually(lambda: pushed(stack, "user-1")) == ["Hello from the model."]

    # A broken edit is told, without the value, and changes nothing.
    change(stack.gateway, lambda gateway: gateway["bots"][0]["wechat"].update(encoding_aes_key="too-short-secret"))
    await eventually(lambda: count(stack.gateway, "settings_refused"))
    assert "gateway.bots.0.wechat.encoding_aes_key" in stack.gateway.log()
    assert "too-short-secret" not in stack.gateway.log()
    await stack.wechat_pusher().say("user-2", "hi")
    await eventually(lambda: pushed(stack, "user-2"))
    text = await metrics(stack.gateway.started["ops"])
    assert 'parley_config_reload_total{outcome="error"} 1.0' in text
    assert 'parley_gateway_credentials_ok{bot="default",platform="feishu"} 1.0' in text

    # A bot with another secret is tried at once; a bot that is gone has no webhook any more.
    def edit(gateway: dict[str, Any]) -> None:
        gateway["bots"][0]["wechat"].update(encoding_aes_key=AES_KEY, app_secret="a-wrong-app-secret")
        gateway["bots"].pop(1)
        gateway["http_port"] = 1

    change(stack.gateway, edit)
    await eventually(lambda: count(stack.gateway, "settings_reloaded") == 2)
    assert '"options": ["gateway.http_port"], "event": "settings_need_restart"' in stack.gateway.log()
    await eventually(lambda: count(stack.gateway, "credentials_failed"))
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.post(stack.url("feishu"), content=b"{}")).status_code == 404
    text = await metrics(stack.gateway.started["ops"])
    assert 'parley_gateway_credentials_ok{bot="default",platform="wechat"} 0.0' in text
    assert 'parley_gateway_credentials_ok{bot="default",platform="feishu"}' not in text
    assert await stack.gateway.stop() == 0
