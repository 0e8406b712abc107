"""Every platform by name. Its module is imported only when a bot uses it: a vendor's SDK can cost seconds to load."""

from importlib import import_module
from typing import Any

from parley_gateway.platforms.base import Platform, PlatformServices

PLATFORMS = {
    "wechat": "parley_gateway.platforms.wechat:create",
    "feishu": "parley_gateway.platforms.feishu:create",
}


def create_platform(name: str, settings: Any, services: PlatformServices) -> Platform:
    """Build a bot's platform from its settings: one of ours, or the operator's `package.module:object`.

    Raises
        ImportError, AttributeError: an own platform's object doesn't exist.
    """
    module, _, attribute = PLATFORMS.get(name, name).partition(":")
    factory: Any = getattr(import_module(module), attribute)
    platform: Platform = factory(settings, services)
    return platform
