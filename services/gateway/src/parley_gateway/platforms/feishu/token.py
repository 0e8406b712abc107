"""The tenant access token of an app.

Feishu documentation, "Obtain tenant_access_token of a self-built app": a token lives 2 hours at most. While at least 30
minutes remain Feishu returns the same one; then a new one, and the old stays valid to its end. So replicas can't spoil
each other's tokens, and renewing with 20 minutes left always gets a new one in time.
"""

from collections.abc import Callable

from lark_oapi.api.auth.v3 import InternalTenantAccessTokenRequest, InternalTenantAccessTokenRequestBody

from parley_gateway.errors import TransientDeliveryError
from parley_gateway.platforms.feishu.api import HTTPCalls
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.platforms.shared import SharedValue
from parley_gateway.store.base import Cache

RENEW_BEFORE_S = 20 * 60.0


async def fetch_token(settings: FeishuSettings, calls: HTTPCalls) -> tuple[str, float]:
    """Ask Feishu for the token; return it with the seconds it is valid for. Raises DeliveryError."""
    body = InternalTenantAccessTokenRequestBody()
    body.app_id = settings.app_id
    body.app_secret = settings.app_secret.get_secret_value()
    request = InternalTenantAccessTokenRequest.builder().request_body(body).build()
    answer = await calls.exchange(request, api="token", access_token="")
    token, lifetime_s = answer.get("tenant_access_token"), answer.get("expire")
    if not isinstance(token, str) or not token or not isinstance(lifetime_s, int):
        raise TransientDeliveryError("token: Feishu's answer holds no access token")
    return token, float(lifetime_s)


def shared_token(
    settings: FeishuSettings, calls: HTTPCalls, cache: Cache, *, clock: Callable[[], float]
) -> SharedValue:
    """Return the app's token as all replicas share it."""
    return SharedValue(
        cache,
        f"feishu/token/{settings.base_url}/{settings.app_id}",
        lambda: fetch_token(settings, calls),
        renew_before_s=RENEW_BEFORE_S,
        clock=clock,
    )
