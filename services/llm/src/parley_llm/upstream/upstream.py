"""A configured upstream at run time: its transport, keys and retry budget, and the shape of its requests."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from parley_llm.config import UpstreamSettings
from parley_llm.presets import load_preset
from parley_llm.presets.schema import Preset
from parley_llm.retry import RetryBudget
from parley_llm.upstream.demo import DemoTransport
from parley_llm.upstream.keys import APIKey, KeyRing
from parley_llm.upstream.pool import Address, Pool
from parley_llm.upstream.proxy import Proxy, environment_proxy, parse_proxy
from parley_llm.upstream.transport import HTTPTransport, Outgoing, Transport

DEMO_URL = "http://demo.invalid/v1"


@dataclass(slots=True)
class Upstream:
    """An endpoint that takes calls. `prefix` is what stands before every path in a request's target."""

    name: str
    preset: Preset
    base_url: str
    prefix: str
    query: str
    transport: Transport
    keys: KeyRing
    budget: RetryBudget
    media_hosts: tuple[str, ...]
    address: Address

    def chat_request(self, key: APIKey, model: str, body: bytes, *, stream: bool) -> Outgoing:
        """Return the request for a chat completion."""
        path = self.preset.chat_path
        if "{model}" in path:
            path = path.replace("{model}", quote(model, safe=""))
        accept = b"accept: text/event-stream\r\n" if stream else b"accept: application/json\r\n"
        headers = key.headers + accept + b"content-type: application/json\r\n"
        return Outgoing("POST", f"{self.prefix}{path}{self.query}", headers, body)


def build_upstream(name: str, settings: UpstreamSettings, env: Mapping[str, str] = os.environ) -> Upstream:
    """Make the running upstream. Raises ValueError for a proxy in `env`, OSError for a CA file, that is unusable."""
    preset = load_preset(settings.preset)
    demo = settings.preset == "demo"
    base_url = DEMO_URL if demo else settings.base_url or str(preset.base_url)
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = Address(
        host,
        port,
        _tls(settings.ca_file) if parts.scheme == "https" else None,
        None if demo else _proxy(settings.proxy, parts.scheme, host, port, env),
    )
    plain_proxy = address.proxy if address.tls is None else None
    # Through a proxy a plain request names its whole URL (RFC 9112, 3.2.2); inside a tunnel it does not.
    prefix = f"{parts.scheme}://{parts.netloc}{parts.path}" if plain_proxy else parts.path
    common = f"host: {parts.netloc}\r\nuser-agent: parley-llm\r\n"
    if plain_proxy and plain_proxy.authorization:
        common += f"proxy-authorization: {plain_proxy.authorization}\r\n"
    return Upstream(
        name=name,
        preset=preset,
        base_url=base_url,
        prefix=prefix,
        query="?" + preset.query.format(api_version=quote(settings.api_version)) if preset.query else "",
        transport=DemoTransport() if demo else HTTPTransport(Pool(address, settings.max_connections)),
        keys=_keys(settings, preset, common),
        budget=RetryBudget(),
        media_hosts=tuple(host.lower() for host in settings.media_hosts),
        address=address,
    )


def _keys(settings: UpstreamSettings, preset: Preset, common: str) -> KeyRing:
    secrets = [key.get_secret_value().strip() for key in settings.api_keys]
    if not secrets:
        return KeyRing([APIKey("", common.encode("latin-1"))])
    return KeyRing(
        [
            APIKey(secret, f"{common}{preset.key_header}: {preset.key_prefix}{secret}\r\n".encode("latin-1"))
            for secret in secrets
        ]
    )


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy(setting: str, scheme: str, host: str, port: int, env: Mapping[str, str]) -> Proxy | None:
    if setting == "none":
        return None
    return parse_proxy(setting) if setting else environment_proxy(scheme, host, port, env)
