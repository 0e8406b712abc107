"""Who may make admin calls, what is logged of them, and what a wrong call is told."""

from typing import Any

import pytest
from parley_gateway.errors import StoreUnavailableError
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.gateway.admin.conftest import TOKEN, Ops


def audit(logs: list[Any]) -> list[tuple[str, str, str]]:
    return [(entry["call"], entry["object"], entry["outcome"]) for entry in logs if entry["event"] == "admin"]


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \N{LATIN SMALL LETTER E WITH ACUTE}"],
)
@pytest.mark.parametrize("call", ["status", "pause"])
async def test_call_without_the_token_is_refused_and_logged(ops: Ops, authorization: str, call: str) -> None:
    headers = {b"authorization": authorization.encode("latin-1")}
    with capture_logs() as logs:
        method = "POST" if call == "pause" else "GET"
        response = await ops.client.request(method, f"/admin/{call}", headers=headers, json={"bot": "default"})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json() == {"error": "the admin token is missing or wrong: it is gateway.admin_token"}
    assert audit(logs) == [(call, "", "refused")]
    assert ops.gateway.levers.pauses() == []
    assert TOKEN not in str(logs)


async def test_without_a_configured_token_every_call_names_the_option(ops: Ops) -> None:
    ops.admin.change(None)
    for headers in ({"authorization": ""}, {"authorization": "Bearer"}, {"authorization": f"Bearer {TOKEN}"}):
        response = await ops.client.get("/admin/status", headers=headers)
        assert response.status_code == 403
        assert "set gateway.admin_token" in response.json()["error"]


async def test_token_can_be_changed_while_the_gateway_runs(ops: Ops) -> None:
    ops.admin.change(SecretStr("another-token-for-tests"))
    assert (await ops.get("status")).status_code == 401
    assert (
        await ops.client.get("/admin/status", headers={"authorization": "bearer another-token-for-tests"})
    ).status_code == 200


async def test_every_call_is_logged_with_who_what_and_outcome(ops: Ops) -> None:
    reference = await ops.bury("SECRET WORDS")
    with capture_logs() as logs:
        await ops.client.post(
            "/admin/pause",
            json={"bot": "default", "notice": "SECRET"},
            headers={b"x-parley-operator": b"ann\t\xe9"},
        )
        await ops.post("resume", bot="default")
        await ops.get("dead-letters", reason="llm")
        await ops.get(f"dead-letters/{reference}", text="1")
        await ops.post(f"dead-letters/{reference}/replay")
        await ops.post("dead-letters/nothing2/discard")
        await ops.get("explain", id="nothing2")
        await ops.post("expire", older_than_s=600)
    assert audit(logs) == [
        ("pause", "default", "ok"),
        ("resume", "default", "ok"),
        ("dead_letters.list", "llm", "ok"),
        ("dead_letters.show", f"{reference} with text", "ok"),
        ("dead_letters.replay", reference, "ok"),
        ("dead_letters.discard", "nothing2", "not_found"),
        ("explain", "nothing2", "not_found"),
        ("expire", "all bots, older than 600 s", "ok"),
    ]
    lines = [entry for entry in logs if entry["event"] == "admin"]
    assert {entry["remote"] for entry in lines} == {"127.0.0.1"}
    assert lines[0]["operator"] == "ann\u00e9"
    assert "SECRET" not in str(logs)


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("pause", b"{", "Invalid JSON"),
        ("pause", b"{}", "bot: Field required"),
        ("pause", b'{"bot": "default", "for_s": -1, "color": 1}', "for_s: Input should be greater than 0"),
        ("pause", b'{"bot": "default", "color": 1}', "color: Extra inputs are not permitted"),
        ("expire", b'{"older_than_s": "soon"}', "older_than_s: Input should be a valid number"),
        ("resume", b"[]", "body: "),
    ],
)
async def test_wrong_body_is_told_what_is_wrong(ops: Ops, path: str, body: bytes, says: str) -> None:
    response = await ops.client.post(f"/admin/{path}", content=body)
    assert response.status_code == 400
    assert says in response.json()["error"]


async def test_large_body_and_odd_limits_are_refused(ops: Ops) -> None:
    assert (await ops.client.post("/admin/pause", content=b" " * 70_000)).status_code == 413
    for limit in ("0", "1001", "-1", "ten", "\u0663"):
        assert (await ops.get("dead-letters", limit=limit)).status_code == 400
    assert (await ops.get("explain", id="x" * 301)).status_code == 400
    assert (await ops.get("explain")).status_code == 400


async def test_store_that_is_away_is_said(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_args: object, **_kwargs: object) -> None:
        raise StoreUnavailableError("disk full")

    monkeypatch.setattr(ops.gateway.store, "stats", away)
    with capture_logs() as logs:
        response = await ops.get("status")
    assert (response.status_code, response.json()) == (503, {"error": "the store can't be used now: disk full"})
    assert audit(logs) == [("status", "", "unavailable")]


async def test_defect_is_an_answer_and_a_log_entry(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError("SECRET")

    monkeypatch.setattr(ops.gateway.store, "stats", broken)
    response = await ops.get("status")
    assert response.status_code == 500
    assert "SECRET" not in response.text


async def test_pages_of_the_ops_port_need_no_token(ops: Ops) -> None:
    assert (await ops.client.get("/livez", headers={"authorization": ""})).status_code == 200
    assert (await ops.client.get("/admin/nothing")).status_code == 404
    assert (await ops.client.get("/admin/pause")).status_code == 405
