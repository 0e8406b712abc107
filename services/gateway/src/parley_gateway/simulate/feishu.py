"""Plays Feishu: delivers one event, by webhook or over the bot's connection, and shows the bot's replies."""

import asyncio
import time
from typing import Any

from parley_gateway.config import BotSettings
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.simulate.cards import first_text, readable
from parley_gateway.simulate.guard import RefusedError, Simulator, simulator_of
from parley_gateway.simulate.options import SimulateOptions
from parley_gateway.simulate.report import Report
from parley_gateway.simulators.feishu.cloud import SimulatedApp, SimulatedMessage, single_chat
from parley_gateway.simulators.feishu.events import Mentioned, message_event, text_content
from parley_gateway.simulators.feishu.pusher import FeishuPusher, Step, Webhook

QUIET_S = 1.5
"""An answer may have several parts: it is complete when nothing more came for this long."""

_POLL_S = 0.1
_STEP_POLL_S = 0.02
"""Shorter, so that a delivery is told of before its answer."""
_GROUP = "oc_simulated_group"


async def play_feishu(options: SimulateOptions, bot: BotSettings, report: Report) -> None:
    """Send the message and report until the answer is complete. Raises RefusedError."""
    settings = bot.feishu
    if settings is None:
        raise RefusedError(f"bot {bot.name!r} has no section feishu")
    async with simulator_of("feishu", bot.name, settings.base_url, options.simulator) as simulator:
        app = await _app(simulator, settings)
        message = await _said(simulator, options)
        mentions = (Mentioned(app.bot_open_id, app.bot_name),) if options.group else ()
        token = settings.verification_token.get_secret_value() if settings.verification_token else ""
        event = message_event(app, token, message, group=options.group, mentions=mentions)
        report.says(message.sender, options.text)
        if settings.mode == "long_connection":
            deliver = _deliver_over_connection(simulator, event, report)
        else:
            key = settings.encrypt_key.get_secret_value() if settings.encrypt_key else ""
            deliver = _deliver(Webhook(options.webhook_url(bot.name), key, token), event, report)
        delivering = asyncio.create_task(deliver)
        try:
            await _show_replies(simulator, message, delivering, report)
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)


async def _app(simulator: Simulator, settings: FeishuSettings) -> SimulatedApp:
    """Return the app as the simulator knows it: this proves that the bot could send there."""
    secret = settings.app_secret.get_secret_value()
    body = {"app_id": settings.app_id, "app_secret": secret}
    answer = await simulator.call("POST", "/open-apis/auth/v3/tenant_access_token/internal", body)
    if answer.get("code") != 0:
        raise RefusedError(
            f"the simulator doesn't know the app {settings.app_id!r} with its secret ({answer.get('msg')}). "
            "Nothing was sent. Start it with the bot's settings."
        )
    headers = {"Authorization": f"Bearer {answer['tenant_access_token']}"}
    info = (await simulator.call("GET", "/open-apis/bot/v3/info", headers=headers))["bot"]
    return SimulatedApp(settings.app_id, secret, bot_open_id=info["open_id"], bot_name=info["app_name"])


async def _said(simulator: Simulator, options: SimulateOptions) -> SimulatedMessage:
    """Put the message into the simulator's chat, so that it can be replied to."""
    sender = options.user if options.user.startswith("ou_") else f"ou_{options.user}"
    chat_id = _GROUP if options.group else single_chat(sender)
    content = text_content(f"@_user_1 {options.text}" if options.group else options.text)
    fields = {"content": content, "chat_id": chat_id, "sender": sender}
    message_id = (await simulator.control("POST", "/feishu/messages", fields))["message_id"]
    return SimulatedMessage(message_id, chat_id, sender, "text", content, time.time())


async def _deliver(webhook: Webhook, event: dict[str, Any], report: Report) -> None:
    """Deliver the event as Feishu does. Ends early when nobody listens at the gateway's address."""

    def on_step(step: Step) -> None:
        report.tried(step)
        if step.status is None and "Connect" in step.problem:
            raise RefusedError(f"no gateway answers at {webhook.url}")

    pusher = FeishuPusher(webhook)
    try:
        await pusher.push(event, on_step=on_step)
    finally:
        await pusher.aclose()


async def _deliver_over_connection(simulator: Simulator, event: dict[str, Any], report: Report) -> None:
    """Let the simulator deliver the event over the bot's connection. Ends early when the bot isn't connected."""
    name = (await simulator.control("POST", "/feishu/deliveries", event))["delivery"]
    told = 0
    while True:
        state = await simulator.control("GET", f"/feishu/deliveries/{name}")
        for step in [Step(**fields) for fields in state["steps"]][told:]:
            told += 1
            report.tried(step)
            if step.status is None and "no connection" in step.problem:
                raise RefusedError("the bot isn't connected to the simulator: is a gateway with this bot running?")
        if state["done"]:
            return
        await asyncio.sleep(_STEP_POLL_S)


async def _show_replies(
    simulator: Simulator, message: SimulatedMessage, delivering: asyncio.Task[None], report: Report
) -> None:
    """Report each reply as it comes, until the answer is complete or nothing was delivered."""
    shown: set[str] = set()
    written: dict[str, str] = {}
    last_at = time.monotonic()
    while True:
        if delivering.done():
            delivering.result()
        streaming = False
        for each in (await simulator.control("GET", f"/feishu/chats/{message.chat_id}"))["messages"]:
            message_id = each["message_id"]
            if each["parent_id"] != message.message_id or message_id in shown:
                continue
            if each["streaming"]:
                streaming = True
                _show_progress(each["content"], written, message_id, report)
                continue
            shown.add(message_id)
            last_at = time.monotonic()
            report.answer(readable(each["msg_type"], each["content"]))
        if shown and not streaming and delivering.done() and time.monotonic() - last_at > QUIET_S:
            return
        await asyncio.sleep(_POLL_S)


def _show_progress(content: str, written: dict[str, str], message_id: str, report: Report) -> None:
    """Report what a card that is still being written shows more than when it was looked at before."""
    text = first_text(content)
    before = written.get(message_id, "")
    if text == before:
        return
    written[message_id] = text
    added = text[len(before) :] if text.startswith(before) else text
    report.notice(f"the card shows {len(text)} characters: {'…' if added != text else ''}{added}")
