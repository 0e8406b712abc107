"""The command `parley-gateway simulator`: serves the APIs that the bots of the settings talk to, until a signal."""

import asyncio
import signal
from collections.abc import Sequence

import structlog
from parley_common import __version__
from parley_common.logs import configure_logs

from parley_gateway.config import BotSettings
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.platforms.wechat.settings import WeChatSettings
from parley_gateway.simulators.feishu.cloud import FeishuCloud, SimulatedApp
from parley_gateway.simulators.feishu.long_connection import ConnectionRules, LongConnections
from parley_gateway.simulators.server import create_app, running
from parley_gateway.simulators.wechat.cloud import SimulatedAccount, WeChatCloud

log = structlog.get_logger("parley.simulator")


async def serve_simulators(bots: Sequence[BotSettings], *, port: int, verified: bool, log_level: str) -> None:
    """Serve the first WeChat and the first Feishu bot of the settings, with their credentials.

    Raises
        BindError: the port is taken.
    """
    configure_logs("simulator", __version__, log_level)
    wechat = next((_wechat_cloud(bot.wechat, verified=verified) for bot in bots if bot.wechat), None)
    feishu = next((_feishu_cloud(bot.feishu) for bot in bots if bot.feishu), None)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # After a restart the bots shall be back at once, not within the minutes that Feishu would have them wait.
    rules = ConnectionRules(reconnect_nonce=1, reconnect_interval=2)
    connections = LongConnections(feishu, rules=rules) if feishu else None
    async with running(create_app(wechat, feishu, connections), port) as url:
        platforms = [name for name, cloud in (("wechat", wechat), ("feishu", feishu)) if cloud is not None]
        log.info("started", url=url, platforms=platforms)
        await stopped.wait()


def _wechat_cloud(settings: WeChatSettings, *, verified: bool) -> WeChatCloud:
    secret = settings.app_secret.get_secret_value() if settings.app_secret else ""
    return WeChatCloud(SimulatedAccount(settings.app_id, secret, verified=verified))


def _feishu_cloud(settings: FeishuSettings) -> FeishuCloud:
    return FeishuCloud(SimulatedApp(settings.app_id, settings.app_secret.get_secret_value()))
