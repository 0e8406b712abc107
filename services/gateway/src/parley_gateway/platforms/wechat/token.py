"""The account's access token: one for all replicas, fetched by one of them at a time.

Uses the stable token (WeChat documentation, "Get stable access token"): every caller gets the same one until it ends,
and WeChat makes the next one five minutes before that, while the old one stays valid. It is never forced to change:
that would void the token that other programs of the account are using.
"""

from collections.abc import Callable

from parley_gateway.errors import TransientDeliveryError
from parley_gateway.platforms.shared import SharedValue
from parley_gateway.platforms.wechat.api import WeChatAPI
from parley_gateway.platforms.wechat.errcodes import credentials_error
from parley_gateway.store.base import Cache

RENEW_BEFORE_S = 240.0
"""A token is renewed when less time than this is left: later than WeChat's five minutes, so that there is a new one."""


async def fetch_token(api: WeChatAPI, app_id: str, app_secret: str) -> tuple[str, float]:
    """Ask WeChat for the token; return it with the seconds it is valid for.

    Raises
        DeliveryError: no token can be had; a permanent one says what to change in the console.
    """
    body = {"grant_type": "client_credential", "appid": app_id, "secret": app_secret, "force_refresh": False}
    answer = await api.post("token", "/cgi-bin/stable_token", body, credentials_error)
    token, lifetime_s = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(token, str) or not token or not isinstance(lifetime_s, int):
        raise TransientDeliveryError("WeChat's answer holds no access token: check base_url", "no_token")
    return token, float(lifetime_s)


def shared_token(
    api: WeChatAPI, cache: Cache, *, app_id: str, app_secret: str, clock: Callable[[], float]
) -> SharedValue:
    """Return the account's token as all replicas share it."""
    return SharedValue(
        cache,
        f"wechat/{app_id}/access_token",
        lambda: fetch_token(api, app_id, app_secret),
        renew_before_s=RENEW_BEFORE_S,
        clock=clock,
    )
