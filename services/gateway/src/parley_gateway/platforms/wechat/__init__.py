"""WeChat Official Accounts: signed or encrypted XML in, inline replies and customer-service messages out.

`create` is the only public name. The platform's own modules are imported on the first call: the settings alone need
none of them.
"""

from typing import TYPE_CHECKING

from parley_gateway.platforms.wechat.settings import WeChatSettings

if TYPE_CHECKING:
    from parley_gateway.platforms.base import Platform, PlatformServices
    from parley_gateway.platforms.wechat.inline import InlineTimings

__all__ = ["create"]


def create(
    settings: WeChatSettings, services: "PlatformServices", *, timings: "InlineTimings | None" = None
) -> "Platform":
    """Build the platform of one bot. `timings` are WeChat's own unless a test scales them.

    Raises
        OSError: `ca_file` can't be read as certificates.
    """
    from parley_gateway.platforms.wechat.inline import InlineTimings
    from parley_gateway.platforms.wechat.platform import WeChatPlatform

    return WeChatPlatform(settings, services, timings or InlineTimings())
