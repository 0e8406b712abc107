"""The bot's own open_id, which tells whether a group message mentions the bot or somebody else."""

from collections.abc import Callable

from lark_oapi.core.enum import HttpMethod
from lark_oapi.core.model import BaseRequest

from parley_gateway.errors import TransientDeliveryError
from parley_gateway.platforms.feishu.api import FeishuAPI
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.platforms.shared import SharedValue
from parley_gateway.store.base import Cache

_DAY_S = 86400.0
_RENEW_BEFORE_S = 3600.0


async def fetch_open_id(api: FeishuAPI) -> tuple[str, float]:
    """Ask Feishu who the bot is ("Obtain bot information"); return its open_id and how long to keep it.

    Raises DeliveryError.
    """
    request = BaseRequest.builder().http_method(HttpMethod.GET).uri("/open-apis/bot/v3/info").build()
    bot = (await api.call(request, api="info")).get("bot")
    open_id = bot.get("open_id") if isinstance(bot, dict) else None
    if not isinstance(open_id, str) or not open_id:
        raise TransientDeliveryError("info: Feishu's answer holds no open_id of the bot")
    return open_id, _DAY_S


def shared_open_id(
    settings: FeishuSettings, api: FeishuAPI, cache: Cache, *, clock: Callable[[], float]
) -> SharedValue:
    """Return the open_id as all replicas share it."""
    return SharedValue(
        cache,
        f"feishu/bot/{settings.base_url}/{settings.app_id}",
        lambda: fetch_open_id(api),
        renew_before_s=_RENEW_BEFORE_S,
        clock=clock,
    )
