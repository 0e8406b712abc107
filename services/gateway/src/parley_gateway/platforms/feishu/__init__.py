"""Feishu and Lark: encrypted webhooks in, cards and texts out.

`create` is the only public name. The platform's own modules are imported on the first call, because they bring in
lark-oapi, which takes seconds and more than 150 MB: a gateway without a Feishu bot never pays for it.
"""

from parley_gateway.platforms.base import Platform, PlatformServices
from parley_gateway.platforms.feishu.settings import FeishuSettings

__all__ = ["create"]


def create(settings: FeishuSettings, services: PlatformServices) -> Platform:
    """Build the platform of one Feishu bot. Raises OSError when `ca_file` can't be read as certificates."""
    from parley_gateway.platforms.feishu.platform import FeishuPlatform

    return FeishuPlatform(settings, services)
