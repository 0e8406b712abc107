"""The HTTP transport of every platform's API client: which proxy it uses and whose certificates it trusts.

The proxy is the bot's `proxy` setting, else the one that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name. A loopback address
(the simulators) is never reached through a proxy. Nothing else of the environment is read.
"""

import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # Documented, missing in typeshed.

import httpx2

LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)


def create_transport(
    base_url: str, *, proxy: str, ca_file: Path | None, environ: Mapping[str, str]
) -> httpx2.AsyncHTTPTransport:
    """Return a connection pool for one API.

    `proxy` is empty for the environment's; the certificates in `ca_file` are trusted besides the system's.

    Raises
        OSError: `ca_file` can't be read as certificates.
    """
    return httpx2.AsyncHTTPTransport(
        verify=create_tls_context(ca_file),
        trust_env=False,
        limits=LIMITS,
        proxy=choose_proxy(base_url, proxy, environ),
    )


def create_tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return what connections to one API are encrypted with.

    Raises
        OSError: `ca_file` can't be read as certificates.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError as exc:
            raise OSError(f"{ca_file} holds no certificates in PEM form") from exc
    return context


def choose_proxy(base_url: str, proxy: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy that leads to `base_url`, None for a direct connection."""
    parts = urlsplit(base_url)
    if is_loopback(parts.hostname or ""):
        return None
    if proxy:
        return proxy
    excluded = _variable(environ, "no_proxy")
    if excluded and proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": excluded}):
        return None
    return _variable(environ, f"{parts.scheme}_proxy") or None


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""
