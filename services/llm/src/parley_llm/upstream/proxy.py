"""Which HTTP proxy leads to an upstream: its own setting, else the usual environment variables.

`HTTPS_PROXY` serves https upstreams, `HTTP_PROXY` http ones, in either case of letters, `NO_PROXY` excludes
hosts. A loopback host never goes through a proxy of the environment: no proxy could reach our loopback.
"""

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `authorization` is the value of `Proxy-Authorization`, or empty; `url` names it whole."""

    host: str
    port: int
    authorization: str = field(repr=False)
    url: str = field(repr=False)


def parse_proxy(url: str) -> Proxy:
    """Read `http://[user:password@]host[:port]`. Raises ValueError for anything else."""
    url = url if "://" in url else f"http://{url}"
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError("a proxy is http://[user:password@]host[:port]")
    authorization = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
    return Proxy(parts.hostname, parts.port or 80, authorization, url)


def environment_proxy(scheme: str, host: str, port: int, env: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that the environment names for this address. Raises ValueError for a malformed one."""
    if is_loopback(host) or _excluded(host, port, _variable(env, "no_proxy")):
        return None
    url = _variable(env, f"{scheme}_proxy") or _variable(env, "all_proxy")
    return parse_proxy(url) if url else None


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address (with or without brackets) is this machine's loopback."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _variable(env: Mapping[str, str], name: str) -> str:
    return env.get(name) or env.get(name.upper()) or ""


def _excluded(host: str, port: int, no_proxy: str) -> bool:
    return any(_matches(host.lower(), port, entry.strip().lower()) for entry in no_proxy.split(",") if entry.strip())


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass  # Not both an address and a network: compare as names.
    name, separator, digits = entry.rpartition(":")
    if separator and digits.isdigit():
        if int(digits) != port:
            return False
        entry = name
    domain = entry.removeprefix("*").removeprefix(".")
    return host == domain or host.endswith("." + domain)
