"""Plays WeChat: pushes one message, taps the links of inline replies, and shows what the simulator received."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from parley_gateway.config import BotSettings
from parley_gateway.platforms.wechat.sentences import CHINESE, ENGLISH
from parley_gateway.platforms.wechat.settings import WeChatSettings
from parley_gateway.simulate.guard import RefusedError, Simulator, simulator_of
from parley_gateway.simulate.options import SimulateOptions
from parley_gateway.simulate.report import Report
from parley_gateway.simulators.wechat.pusher import BANNER, Delivery, WeChatPusher
from parley_gateway.simulators.wechat.webhook import Webhook

QUIET_S = 1.5
"""An answer may have several parts: it is complete when nothing more came for this long."""
TAP_AFTER_S = 1.0
"""How long the simulated user waits before tapping a link."""

_POLL_S = 0.1
_LINK = re.compile(r"<a [^>]*>[^<]*</a>")


async def play_wechat(options: SimulateOptions, bot: BotSettings, report: Report) -> None:
    """Send the message and report until the answer is complete. Raises RefusedError."""
    settings = bot.wechat
    if settings is None:
        raise RefusedError(f"bot {bot.name!r} has no section wechat")
    if options.group:
        raise RefusedError("WeChat Official Accounts are in no groups: leave --group out")
    pusher = WeChatPusher(_webhook(settings, options.webhook_url(bot.name)))
    async with _simulator(settings, bot, options) as simulator:
        seen_before = 0
        if simulator is not None:
            await simulator.control("POST", f"/wechat/users/{options.user}/sent")
            seen_before = len(await _pushed(simulator, options.user))
        report.says(options.user, options.text)
        delivery = await pusher.say(options.user, options.text, on_step=report.tried)
        await _show_inline(pusher, options.user, delivery, report)
        if simulator is not None and not report.answered and not delivery.failed:
            await _show_pushed(simulator, options.user, seen_before, report)


def _webhook(settings: WeChatSettings, url: str) -> Webhook:
    key = settings.encoding_aes_key
    return Webhook(
        url,
        settings.token.get_secret_value(),
        app_id=settings.app_id,
        encoding_aes_key=key.get_secret_value() if key else "",
        encryption=settings.encryption_mode,
    )


@asynccontextmanager
async def _simulator(
    settings: WeChatSettings, bot: BotSettings, options: SimulateOptions
) -> AsyncIterator[Simulator | None]:
    """Yield the simulator of a bot that pushes, None for one that only answers inline."""
    if settings.reply_mode == "inline":
        yield None
        return
    async with simulator_of("wechat", bot.name, settings.base_url, options.simulator) as simulator:
        yield simulator


async def _show_inline(pusher: WeChatPusher, user: str, delivery: Delivery, report: Report) -> None:
    """Report a passive reply; tap its link for the answer, or for the rest of it, as long as there is one."""
    while True:
        if delivery.failed:
            report.notice(BANNER)
            return
        if not delivery.text:
            return
        if _is_answer(delivery.text):
            report.answer(delivery.text)
        else:
            report.notice(delivery.text)
        if not delivery.links:
            return
        link = delivery.links[-1]
        await asyncio.sleep(TAP_AFTER_S)
        report.notice(f"{user} taps “{link.label}”")
        delivery = await pusher.tap(user, link)


def _is_answer(text: str) -> bool:
    """Tell an answer from a line that only asks to come back for it."""
    rest = _LINK.sub("", text)
    for sentences in (CHINESE, ENGLISH):
        rest = rest.replace(sentences.thinking, "")
    return bool(rest.strip())


async def _pushed(simulator: Simulator, user: str) -> list[str]:
    seen = (await simulator.control("GET", f"/wechat/users/{user}"))["seen"]
    return [each["text"] for each in seen if each["via"] == "push"]


async def _show_pushed(simulator: Simulator, user: str, shown: int, report: Report) -> None:
    """Report each pushed message as it comes, until the answer is complete."""
    last_at = time.monotonic()
    while not report.answered or time.monotonic() - last_at <= QUIET_S:
        for text in (await _pushed(simulator, user))[shown:]:
            shown += 1
            last_at = time.monotonic()
            report.answer(text)
        await asyncio.sleep(_POLL_S)
