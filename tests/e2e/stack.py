"""All of Parley for one test: three real processes, the simulated platforms, a scripted upstream."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from parley_gateway.simulators.feishu.cloud import FeishuCloud, SimulatedApp
from parley_gateway.simulators.feishu.long_connection import ConnectionRules, LongConnections
from parley_gateway.simulators.feishu.pusher import FeishuPusher
from parley_gateway.simulators.feishu.pusher import Webhook as FeishuWebhook
from parley_gateway.simulators.server import create_app, running
from parley_gateway.simulators.wechat.cloud import SimulatedAccount, WeChatCloud
from parley_gateway.simulators.wechat.pusher import WeChatPusher
from parley_gateway.simulators.wechat.webhook import Webhook as WeChatWebhook

from tests.e2e.processes import ServiceProcess
from tests.fakes.openai_upstream import OpenAIUpstream, stream, words

WECHAT_TOKEN = "e2e-wechat-token-1"
AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
FEISHU_ENCRYPT_KEY = "e2e-feishu-encrypt-key"
FEISHU_VERIFICATION = "e2e-feishu-verification-token"
OPENAI_KEY = "sk-e2e-upstream-key"
CALLER_KEY = "e2e-gateway-caller-key"
SECRETS = (
    WECHAT_TOKEN, AES_KEY, FEISHU_ENCRYPT_KEY, FEISHU_VERIFICATION, OPENAI_KEY, CALLER_KEY,
    "e2e-wechat-app-secret", "e2e-feishu-app-secret",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What differs between tests."""

    env: Mapping[str, str] = field(default_factory=dict)
    wechat: Mapping[str, Any] | None = field(default_factory=dict)
    """Changes to the WeChat bot's section; None leaves the bot out."""
    feishu: Mapping[str, Any] | None = field(default_factory=dict)
    bot: Mapping[str, Any] = field(default_factory=dict)
    """Options of every bot."""
    gateway: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    """Options of the model `chat`."""
    verified: bool = True


@dataclass
class Stack:
    """What a test works with."""

    folder: Path
    upstream: OpenAIUpstream
    wechat: WeChatCloud
    feishu: FeishuCloud
    connections: LongConnections
    formatter: ServiceProcess
    llm: ServiceProcess
    gateway: ServiceProcess

    @property
    def processes(self) -> tuple[ServiceProcess, ...]:
        return (self.formatter, self.llm, self.gateway)

    def url(self, platform: str) -> str:
        """The webhook's URL of a platform's bot."""
        return f"http://{self.gateway.started['http']}/webhooks/{platform}/default"

    def wechat_pusher(self, encryption: Literal["safe", "compat", "plain"] = "safe") -> WeChatPusher:
        """WeChat, pushing to this gateway."""
        webhook = WeChatWebhook(
            url=self.url("wechat"),
            app_id=self.wechat.account.app_id,
            account_id=self.wechat.account.account_id,
            token=WECHAT_TOKEN,
            encoding_aes_key=AES_KEY,
            encryption=encryption,
        )
        return WeChatPusher(webhook, self.wechat)

    def feishu_pusher(self) -> FeishuPusher:
        """Feishu, pushing to this gateway."""
        return FeishuPusher(FeishuWebhook(self.url("feishu"), FEISHU_ENCRYPT_KEY, FEISHU_VERIFICATION))


def settings(options: Options, *, simulator: str, upstream: str, stack: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings file of all three services."""
    bots: list[dict[str, Any]] = []
    if options.wechat is not None:
        section = {
            "app_id": "wx_e2e",
            "app_secret": "e2e-wechat-app-secret",
            "token": WECHAT_TOKEN,
            "encoding_aes_key": AES_KEY,
            "base_url": simulator,
            **options.wechat,
        }
        section = {key: value for key, value in section.items() if value is not None}
        bots.append({"name": "default", "platform": "wechat", "locale": "en", "wechat": section})
    if options.feishu is not None:
        section = {
            "app_id": "cli_e2e",
            "app_secret": "e2e-feishu-app-secret",
            "encrypt_key": FEISHU_ENCRYPT_KEY,
            "verification_token": FEISHU_VERIFICATION,
            "base_url": simulator,
            **options.feishu,
        }
        section = {key: value for key, value in section.items() if value is not None}
        bots.append({"name": "default", "platform": "feishu", "locale": "en", "feishu": section})
    return {
        "formatter": {"grpc_port": 0, "ops_port": 0},
        "llm": {
            "grpc_port": 0,
            "http_port": 0,
            "ops_port": 0,
            "upstreams": {"main": {"base_url": upstream, "api_keys": [OPENAI_KEY]}},
            "models": {
                "chat": {"targets": [{"upstream": "main", "model": "fake-model"}], **options.model},
                "big": {"targets": [{"upstream": "main", "model": "big-model"}]},
            },
            "callers": [{"name": "gateway", "keys": [CALLER_KEY]}],
        },
        "gateway": {
            "http_port": 0,
            "ops_port": 0,
            "lease": "2s",
            "llm": {"target": stack.get("llm", "127.0.0.1:1"), "key": CALLER_KEY},
            "formatter": {"target": stack.get("formatter", "127.0.0.1:1")},
            "bots": [{**bot, "model": "chat", **options.bot} for bot in bots],
            **options.gateway,
        },
    }


@asynccontextmanager
async def start_stack(folder: Path, options: Options | None = None) -> AsyncIterator[Stack]:
    """Start everything; stop everything at the end of the block."""
    options = options or Options()
    wechat = WeChatCloud(SimulatedAccount("wx_e2e", "e2e-wechat-app-secret", verified=options.verified))
    feishu = FeishuCloud(SimulatedApp("cli_e2e", "e2e-feishu-app-secret"))
    async with AsyncExitStack() as cleanup:
        upstream = await cleanup.enter_async_context(OpenAIUpstream(stream(*words("Hello", " from the model."))))
        connections = LongConnections(feishu, rules=ConnectionRules(reconnect_nonce=1, reconnect_interval=1))
        simulator = await cleanup.enter_async_context(running(create_app(wechat, feishu, connections)))

        def write(name: str, targets: Mapping[str, str]) -> ServiceProcess:
            file = folder / f"{name}.yaml"
            document = settings(options, simulator=simulator, upstream=upstream.base_url, stack=targets)
            file.write_text(yaml.safe_dump(document), encoding="utf-8")
            return ServiceProcess(name, folder, {"PARLEY_CONFIG": str(file), **options.env})

        formatter, llm = write("formatter", {}), write("llm", {})
        for process in (formatter, llm):
            cleanup.push_async_callback(process.stop)
        await formatter.start()
        await llm.start()
        gateway = write("gateway", {"llm": llm.started["grpc"], "formatter": formatter.started["grpc"]})
        cleanup.push_async_callback(gateway.stop)
        await gateway.start()
        yield Stack(folder, upstream, wechat, feishu, connections, formatter, llm, gateway)
