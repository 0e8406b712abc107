"""The HTTP client of one bot: its time limits and the connections that its calls share."""

from collections.abc import Mapping

import httpx2

from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.platforms.outgoing import create_transport

_TIMEOUT = httpx2.Timeout(10.0, connect=3.0, pool=5.0)


def create_client(settings: FeishuSettings, environ: Mapping[str, str]) -> httpx2.AsyncClient:
    """Build the client; `environ` may name a proxy. Raises OSError when `ca_file` can't be read as certificates."""
    return httpx2.AsyncClient(
        base_url=settings.base_url,
        transport=create_transport(settings.base_url, proxy=settings.proxy, ca_file=settings.ca_file, environ=environ),
        trust_env=False,
        timeout=_TIMEOUT,
        headers={"User-Agent": "parley-gateway"},
    )
