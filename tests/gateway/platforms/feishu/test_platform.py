"""One bot from the request to the acknowledgement."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from parley_gateway.errors import DeliveryError, PermanentDeliveryError, StoreUnavailableError, TransientDeliveryError
from parley_gateway.platforms import feishu
from parley_gateway.platforms.base import CAPABILITIES, Challenge, Ignored, Messages, RawRequest, Support
from parley_gateway.platforms.feishu import api as api_module
from parley_gateway.platforms.feishu import platform as platform_module
from parley_gateway.platforms.feishu.platform import FeishuPlatform
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.errors import APIError
from parley_gateway.store.base import AcceptOutcome, Receipt

from tests.fakes.memory_cache import MemoryCache
from tests.gateway.platforms.feishu import vectors
from tests.gateway.platforms.feishu.conftest import (
    APP_SECRET,
    Calls,
    Clock,
    fixture_event,
    make_platform,
    make_settings,
    signed_request,
)
from tests.gateway.platforms.feishu.shared_server import SharedServer

BUSY = APIError(2200, "internal error", 500)


async def test_check_of_the_url_is_answered_in_clear(platform: FeishuPlatform) -> None:
    handled = await platform.handle(RawRequest("POST", {}, {}, vectors.CHALLENGE_BODY))
    assert isinstance(handled, Challenge)
    assert json.loads(handled.response.body) == {"challenge": "ajls384kdjx98XX"}
    assert (handled.response.status, handled.response.content_type[:16]) == (200, "application/json")


async def test_card_action_is_acknowledged(platform: FeishuPlatform) -> None:
    headers = {
        "x-lark-request-timestamp": vectors.TIMESTAMP,
        "x-lark-request-nonce": vectors.NONCE,
        "x-lark-signature": vectors.CARD_ACTION_SIGNATURE,
    }
    handled = await platform.handle(RawRequest("POST", {}, headers, vectors.CARD_ACTION_BODY))
    assert isinstance(handled, Ignored)
    assert (handled.event, handled.response.status, handled.response.body) == ("card_action", 200, b"{}")


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(AcceptOutcome.ACCEPTED, 200), (AcceptOutcome.DUPLICATE, 200), (AcceptOutcome.FULL, 503)],
)
async def test_only_a_full_queue_is_not_acknowledged(
    platform: FeishuPlatform, outcome: AcceptOutcome, status: int
) -> None:
    handled = await platform.handle(signed_request(fixture_event("message__text_single")))
    assert isinstance(handled, Messages)
    response = await handled.respond(Receipt(outcome, handled.messages[0].delivery_key, 0.0, 1))
    assert response.status == status
    json.loads(response.body)


async def test_unavailable_is_503(platform: FeishuPlatform) -> None:
    assert (await platform.unavailable()).status == 503


async def test_own_open_id_is_asked_for_once_for_all_replicas(
    platform: FeishuPlatform, cloud: FeishuCloud, clock: Clock, cache: MemoryCache, calls: Calls, base_url: str
) -> None:
    request = signed_request(fixture_event("message__text_group_mention"))
    other_replica = make_platform(make_settings(base_url), cache, clock, calls)
    for _ in range(5):
        assert isinstance(await platform.handle(request), Messages)
        assert isinstance(await other_replica.handle(request), Messages)
    assert cloud.calls["info"] == 1
    (kept_until,) = (expires_at for key, (_, expires_at) in cache.values.items() if "/bot/" in key)
    assert kept_until == clock.now + 86_400
    await other_replica.close()


async def test_messages_without_mentions_need_no_call(platform: FeishuPlatform, cloud: FeishuCloud) -> None:
    await platform.handle(signed_request(fixture_event("message__text_single")))
    await platform.handle(signed_request(fixture_event("message__text_group_plain")))
    assert not cloud.calls


async def test_unknown_own_id_makes_feishu_deliver_again(platform: FeishuPlatform, cloud: FeishuCloud) -> None:
    cloud.fail_next("info", BUSY)
    request = signed_request(fixture_event("message__text_group_mention"))
    with pytest.raises(DeliveryError):
        await platform.handle(request)
    assert isinstance(await platform.handle(request), Messages)


async def test_own_id_that_takes_too_long_makes_feishu_deliver_again(
    platform: FeishuPlatform, cache: MemoryCache, clock: Clock, monkeypatch: pytest.MonkeyPatch, base_url: str
) -> None:
    monkeypatch.setattr(platform_module, "OWN_ID_TIMEOUT_S", 0.1)
    await cache.try_lock(f"feishu/bot/{base_url}/{vectors.APP_ID}", "a dead replica", now=clock.now, ttl_s=20)
    with pytest.raises(DeliveryError, match="in time"):
        await platform.handle(signed_request(fixture_event("message__text_group_mention")))


async def test_store_that_is_down_is_the_gateways_to_answer(platform: FeishuPlatform, cache: MemoryCache) -> None:
    cache.down = True
    with pytest.raises(StoreUnavailableError):
        await platform.handle(signed_request(fixture_event("message__text_group_mention")))


async def test_foreign_tenants_are_answered_when_accepted(
    base_url: str, cache: MemoryCache, clock: Clock, calls: Calls
) -> None:
    platform = make_platform(make_settings(base_url, foreign_tenants="accept"), cache, clock, calls)
    handled = await platform.handle(signed_request(fixture_event("message__text_foreign_tenant")))
    assert isinstance(handled, Messages)
    await platform.close()


async def test_sender_without_tenant_is_foreign(platform: FeishuPlatform) -> None:
    event = fixture_event("message__text_single")
    del event["event"]["sender"]["tenant_key"]
    handled = await platform.handle(signed_request(event))
    assert isinstance(handled, Messages)
    assert handled.refusal == "refused_tenant"


async def test_good_credentials_pass(platform: FeishuPlatform, calls: Calls) -> None:
    await platform.check_credentials()
    assert calls.seen == [("token", "ok", "")]


@pytest.mark.parametrize(
    ("change", "advice"),
    [({"app_secret": "wrong-but-secret"}, "app_secret"), ({"app_id": "cli_wrong"}, "app_id")],
)
async def test_wrong_credentials_say_what_to_change(
    base_url: str, cache: MemoryCache, clock: Clock, calls: Calls, change: dict[str, str], advice: str
) -> None:
    platform = make_platform(make_settings(base_url, **change), cache, clock, calls)
    with pytest.raises(PermanentDeliveryError, match=advice) as caught:
        await platform.check_credentials()
    assert "Credentials & Basic Info" in str(caught.value)
    assert "wrong-but-secret" not in repr(caught.value)
    assert calls.seen == [("token", "error", "refused")]
    await platform.close()


async def test_unreachable_feishu_is_transient(cache: MemoryCache, clock: Clock, calls: Calls) -> None:
    platform = make_platform(make_settings("http://127.0.0.1:9"), cache, clock, calls)
    with pytest.raises(TransientDeliveryError):
        await platform.check_credentials()
    assert calls.seen == [("token", "error", "connection")]
    await platform.close()


async def test_answer_that_drips_is_given_up(
    server: SharedServer, base_url: str, platform: FeishuPlatform, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dripping(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(20):
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(0.05)

    server.app = dripping
    monkeypatch.setattr(api_module, "CALL_S", 0.2)
    with pytest.raises(TransientDeliveryError, match="in time"):
        await platform.check_credentials()
    assert calls.seen == [("token", "error", "timeout")]


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b"[]", b'{"code": "0"}', b'{"code": 0}', b"\xff"])
async def test_answer_that_is_not_feishus_is_transient(
    server: SharedServer, platform: FeishuPlatform, body: bytes
) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    server.app = other
    with pytest.raises(TransientDeliveryError):
        await platform.check_credentials()


async def test_loopback_is_reached_without_the_environments_proxy(
    base_url: str, cache: MemoryCache, clock: Clock, calls: Calls
) -> None:
    dead = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    platform = make_platform(make_settings(base_url), cache, clock, calls, dead)
    await platform.check_credentials()
    await platform.close()


async def test_proxy_of_the_settings_wins(base_url: str, cache: MemoryCache, clock: Clock, calls: Calls) -> None:
    """The simulator stands in for the proxy: it answers requests for a host that doesn't exist."""
    settings = make_settings("http://feishu.invalid", proxy=base_url)
    platform = make_platform(settings, cache, clock, calls, {"HTTP_PROXY": "http://127.0.0.1:9"})
    await platform.check_credentials()
    await platform.close()


def test_readme_tells_of_every_capability_and_option() -> None:
    readme = (Path(feishu.__file__).parent / "README.md").read_text(encoding="utf-8")
    for name, capability in FeishuPlatform.capabilities.items():
        assert f"| `{name}` | {capability.support.value} | {capability.reason}" in readme
    assert all(f"`{name}`" in readme for name in FeishuSettings.model_fields)


def test_every_capability_is_declared_and_explained() -> None:
    capabilities = FeishuPlatform.capabilities
    assert set(capabilities) == set(CAPABILITIES)
    assert all(each.reason or each.support is Support.DONE for each in capabilities.values())


def test_delivery_keys_outlive_redelivery() -> None:
    redelivery = FeishuPlatform.redelivery
    assert redelivery.after_s == (15, 300, 3600, 21600)
    assert redelivery.span_s >= sum(redelivery.after_s)


async def test_no_secret_is_shown(platform: FeishuPlatform, base_url: str) -> None:
    settings = make_settings(base_url, proxy="http://user:proxy-password@proxy:3128")
    for secret in (APP_SECRET, vectors.ENCRYPT_KEY, vectors.VERIFICATION_TOKEN, "proxy-password"):
        assert secret not in repr(settings)
        assert secret not in repr(vars(platform))


async def test_many_mentions_at_once_ask_once(platform: FeishuPlatform, cloud: FeishuCloud) -> None:
    request = signed_request(fixture_event("message__text_group_mention"))
    handled: list[Any] = await asyncio.gather(*(platform.handle(request) for _ in range(20)))
    assert all(isinstance(each, Messages) for each in handled)
    assert (cloud.calls["info"], cloud.calls["token"]) == (1, 1)


def test_gateway_without_feishu_never_imports_lark_oapi() -> None:
    program = (
        "import sys, parley_gateway.config, parley_gateway.cli, parley_gateway.simulate;"
        "from parley_gateway.platforms.feishu.settings import FeishuSettings;"
        "import parley_gateway.simulators.feishu.api, parley_gateway.simulators.feishu.pusher;"
        "sys.exit(int(any(name.split('.')[0] == 'lark_oapi' for name in sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=50).returncode == 0
