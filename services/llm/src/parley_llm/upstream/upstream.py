"""A configured upstream at run time: its transport, keys and retry budget, and the shape of its requests."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import quote, urlsplit

from parley_llm.config.upstreams import UpstreamSettings
from parley_llm.presets import langchain_preset, load_preset
from parley_llm.presets.schema import OperationName, Preset
from parley_llm.retry import RetryBudget
from parley_llm.upstream.body import Upload
from parley_llm.upstream.demo import DemoTransport
from parley_llm.upstream.keys import APIKey, KeyRing
from parley_llm.upstream.pool import Address, Pool
from parley_llm.upstream.proxy import Proxy, environment_proxy, parse_proxy
from parley_llm.upstream.transport import HTTPTransport, Outgoing, Transport

DEMO_URL = "http://demo.invalid/v1"
LANGCHAIN_URL = "http://langchain.invalid/v1"


class OptionError(ValueError):
    """An option names something that can't be used; the message begins with the option's path."""


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

    def request(
        self, key: APIKey, operation: OperationName, path: str, model: str, headers: bytes, body: bytes | Upload
    ) -> Outgoing:
        """Return the request for an operation, which OpenAI serves at `path`; `headers` are further header lines."""
        path = self.preset.paths.get(operation) or path
        if "{model}" in path:
            path = path.replace("{model}", quote(model, safe=""))
        return Outgoing("POST", f"{self.prefix}{path}{self.query}", key.headers + headers, body)


class TLSContexts:
    """The TLS settings of upstreams built together: those that trust the same authorities share one.

    Reading the system's authorities takes some 15 ms and a megabyte.
    """

    def __init__(self) -> None:
        self._made: dict[Path | None, ssl.SSLContext] = {}

    def trusting(self, ca_file: Path | None) -> ssl.SSLContext:
        """Return the one that trusts the authorities in a file, the system's for None. Raises OSError."""
        context = self._made.get(ca_file)
        if context is None:
            context = self._made[ca_file] = ssl.create_default_context(cafile=ca_file)
            context.set_alpn_protocols(["http/1.1"])
        return context


def build_upstream(
    name: str, settings: UpstreamSettings, env: Mapping[str, str] = os.environ, tls: TLSContexts | None = None
) -> Upstream:
    """Make the running upstream.

    Raises
        OptionError: `runnable` names nothing that can be served.
        ValueError: a proxy in `env` is unusable.
        OSError: a CA file is unusable.
    """
    if settings.kind == "langchain":
        return _langchain_upstream(name, settings)
    preset = load_preset(settings.preset)
    demo = settings.preset == "demo"
    base_url = DEMO_URL if demo else settings.base_url or str(preset.base_url)
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = Address(
        host,
        port,
        (tls or TLSContexts()).trusting(settings.ca_file) if parts.scheme == "https" else None,
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


def _langchain_upstream(name: str, settings: UpstreamSettings) -> Upstream:
    """Make an upstream of an object in this process. LangChain is imported here and nowhere else."""
    from parley_llm.upstream.langchain.loading import serve

    try:
        served = serve(name, settings.runnable, settings.input, settings.max_connections)
    except ValueError as exc:
        raise OptionError(f"llm.upstreams.{name}.runnable: {exc}") from exc
    preset = langchain_preset()
    others: dict[OperationName, None] = dict.fromkeys(one for one in get_args(OperationName) if one != served.operation)
    parts = urlsplit(LANGCHAIN_URL)
    return Upstream(
        name=name,
        preset=preset.model_copy(update={"paths": others, "features": {**preset.features, **served.features}}),
        base_url=LANGCHAIN_URL,
        prefix=parts.path,
        query="",
        transport=served.transport,
        keys=KeyRing([APIKey("", b"")]),
        budget=RetryBudget(),
        media_hosts=tuple(host.lower() for host in settings.media_hosts),
        address=Address(parts.netloc, 80, None, None),
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


def _proxy(setting: str, scheme: str, host: str, port: int, env: Mapping[str, str]) -> Proxy | None:
    if setting == "none":
        return None
    return parse_proxy(setting) if setting else environment_proxy(scheme, host, port, env)
