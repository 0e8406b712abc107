"""`parley-gateway simulate`: plays a chat platform against a running gateway and shows what a user would see.

The request is signed, encrypted and repeated as the platform would; the answer is read from the request's own reply or
from the simulator of the platform's API. It never makes a gateway push to a real platform: see `guard.py`.
"""

import asyncio
from collections.abc import Callable, Sequence

from parley_gateway.config import BotSettings
from parley_gateway.simulate.feishu import play_feishu
from parley_gateway.simulate.guard import RefusedError
from parley_gateway.simulate.options import SimulateOptions, choose_bot
from parley_gateway.simulate.report import Report
from parley_gateway.simulate.wechat import play_wechat

__all__ = ["SimulateOptions", "run"]

_PLAYERS = {"wechat": play_wechat, "feishu": play_feishu}


async def run(options: SimulateOptions, bots: Sequence[BotSettings], *, write: Callable[[str], None] = print) -> int:
    """Send one message to one of the bots; return 0 when an answer was seen, else 1."""
    report = Report(write)
    try:
        bot = choose_bot(options, bots)
        async with asyncio.timeout(options.timeout_s):
            await _PLAYERS[options.platform](options, bot, report)
    except RefusedError as exc:
        write(str(exc))
        return 1
    except TimeoutError:
        report.timed_out(options.timeout_s)
    return 0 if report.answered else 1
