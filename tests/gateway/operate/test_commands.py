"""The operator's commands: what they print, and what they say when something is wrong."""

import json
import re
from pathlib import Path

import parley_gateway
import pytest
from parley_gateway.operate.show import STEPS

from tests.fakes.gateway_parts import question
from tests.gateway.admin.conftest import TOKEN, Ops
from tests.gateway.operate.conftest import Run


async def test_status_names_what_holds_the_queue_up(ops: Ops, run: Run) -> None:
    code, out, _ = await run("status")
    assert code == 0
    assert "waiting       0 messages, 0 conversations in work" in out
    assert "paused        none" in out
    await ops.bury()
    await ops.gateway.levers.pause("fake", "default", notice="Back at noon.", for_s=3600)
    ops.gateway.ramps.of("chat").failed("CIRCUIT_OPEN")
    _, out, _ = await run("status")
    assert "dead letters  1" in out
    assert "fake/default since 2023-11-14 22:13:20.000Z until 2023-11-14 23:13:20.000Z, says: Back at noon." in out
    assert "chat: out of reach (CIRCUIT_OPEN), since 2023-11-14 22:13:20.000Z; 0 questions of at most 4" in out
    _, out, _ = await run("status", "--json")
    assert json.loads(out)["queue"]["dead_letters"] == 1


async def test_explain_prints_a_timeline(ops: Ops, run: Run) -> None:
    ops.note("accepted")
    ops.gateway.clock.now += 1.25
    reference = await ops.bury("SECRET WORDS", "m1")
    code, out, _ = await run("explain", reference)
    assert code == 0
    assert out.splitlines() == [
        f"reference {reference}",
        "2023-11-14 22:13:20.000Z  +   0.000s  [worker]  accepted and stored",
        "2023-11-14 22:13:21.250Z  +   1.250s  [worker]  became a dead letter  reason=llm",
        "It is among the dead letters: llm, since 2023-11-14 22:13:21.250Z.",
        f"To try it again: parley-gateway dead-letters replay {reference}",
    ]
    assert (await run("explain", "m1"))[1] == out
    code, out, err = await run("explain", "nothing-of-ours")
    assert (code, out) == (1, "")
    assert "nothing is known of 'nothing-of-ours'" in err


async def test_dead_letters_are_listed_shown_replayed_and_discarded(ops: Ops, run: Run) -> None:
    assert (await run("dead-letters", "list"))[1] == "There are no dead letters."
    first, second = await ops.bury("SECRET one", "m1"), await ops.bury("two", "m2")
    third = await ops.bury("three", "m3", "busy")
    code, out, _ = await run("dead-letters", "list", "--reason", "llm")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} == {first, second}
    code, out, _ = await run("dead-letters", "show", first)
    assert "message_id   m1" in out
    assert "SECRET" not in out
    assert "SECRET one" in (await run("dead-letters", "show", first, "--text"))[1]
    assert (await run("dead-letters", "replay", first))[1] == f"{first}  replayed"
    assert (await run("dead-letters", "replay", first))[:2] == (0, f"{first}  already replayed")
    assert (await run("dead-letters", "replay", "--reason", "busy"))[1] == f"{third}  replayed"
    assert (await run("dead-letters", "discard", second))[1] == f"{second}  discarded"
    code, _, err = await run("dead-letters", "discard", second)
    assert code == 1
    assert f"there is no dead letter '{second}'" in err
    code, _, err = await run("dead-letters", "replay")
    assert code == 1
    assert "--reason" in err
    assert (await ops.gateway.store.stats(now=ops.gateway.clock())).depth == 2


async def test_what_a_user_wrote_commands_no_terminal(ops: Ops, run: Run) -> None:
    reference = await ops.bury("red \x1b[31m 你好\nnext \x9b2J")
    out = (await run("dead-letters", "show", reference, "--text"))[1]
    assert "text         red \\u001b[31m 你好\\nnext \\u009b2J" in out.splitlines()
    out = (await run("dead-letters", "show", reference, "--text", "--json"))[1]
    assert "\x9b" not in out
    assert json.loads(out)["text"] == "red \x1b[31m 你好\nnext \x9b2J"


def test_every_step_of_a_trail_has_words() -> None:
    folder = Path(parley_gateway.__file__).parent
    noted = {"accepted", "redelivered", "paused", "ramp", "kept", "done"}  # Their names stand elsewhere.
    for file in folder.rglob("*.py"):
        noted |= set(re.findall(r'\.note\(\s*[\w.]+,\s*"(\w+)"', file.read_text(encoding="utf-8")))
    assert noted == set(STEPS)


async def test_bot_is_paused_and_resumed(ops: Ops, run: Run) -> None:
    code, out, _ = await run("pause", "default", "--notice", "Back at noon.", "--for", "30m")
    assert (code, out) == (0, "fake/default is paused until 2023-11-14 22:43:20.000Z.")
    (pause,) = ops.gateway.levers.pauses()
    assert pause.notice == "Back at noon."
    assert (await run("resume", "fake/default"))[1] == "fake/default works again."
    assert (await run("resume", "default"))[1] == "fake/default was not paused."
    code, _, err = await run("pause", "nobody")
    assert code == 1
    assert err == "there is no bot 'nobody'; there are: fake/default\n"


async def test_old_questions_expire(ops: Ops, run: Run) -> None:
    await ops.gateway.accept(question())
    ops.gateway.clock.now += 601
    assert (await run("expire", "--older-than", "10m", "--bot", "default"))[1] == (
        "1 questions expired; their users are told."
    )


@pytest.mark.parametrize("arguments", [("pause", "b", "--for", "soon"), ("expire",), ("dead-letters",), ("explain",)])
async def test_wrong_arguments_exit_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        await run(*arguments)
    assert caught.value.code == 2


async def test_wrong_token_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_GATEWAY_ADMIN_TOKEN", "not-the-token-at-all")
    code, out, err = await run("status")
    assert (code, out) == (1, "")
    assert err == "the admin token is missing or wrong: it is gateway.admin_token\n"


async def test_gateway_without_a_token_names_the_option(ops: Ops, run: Run) -> None:
    ops.admin.change(None)
    code, _, err = await run("status")
    assert code == 1
    assert "set gateway.admin_token" in err


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1", "can't be reached"),
        ("127.0.0.1:9080", "is no URL of an ops port"),
        ("ftp://127.0.0.1", "is no URL of an ops port"),
    ],
)
async def test_gateway_that_cannot_be_reached_is_said(run: Run, url: str, says: str) -> None:
    code, _, err = await run("status", "--ops", url)
    assert code == 1
    assert says in err
    assert err.count("\n") == 1
    assert TOKEN not in err


async def test_other_servers_are_recognized(ops: Ops, run: Run) -> None:
    code, _, err = await run("status", "--ops", f"{ops.url}/metrics")
    assert code == 1
    assert "without JSON: is this a gateway's ops port?" in err


async def test_token_may_stand_in_a_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARLEY_GATEWAY_ADMIN_TOKEN")
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert (await run("status", "--token-file", str(file)))[0] == 0
    file.write_text("\n")
    assert "is empty" in (await run("status", "--token-file", str(file)))[2]
    assert "can't be read" in (await run("status", "--token-file", str(tmp_path / "absent")))[2]


async def test_address_and_token_come_from_the_settings_of_the_same_machine(
    ops: Ops, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARLEY_GATEWAY_OPS_URL")
    monkeypatch.delenv("PARLEY_GATEWAY_ADMIN_TOKEN")
    port = ops.url.rpartition(":")[2]
    (tmp_path / "parley.yaml").write_text(f"gateway: {{ops_port: {port}, admin_token: {TOKEN}}}\n")
    assert (await run("status"))[0] == 0
    (tmp_path / "parley.yaml").write_text(f"gateway: {{ops_port: {port}}}\n")
    code, _, err = await run("status")
    assert code == 1
    assert "no admin token" in err
    (tmp_path / "parley.yaml").write_text("gateway: {admin_token: short}\n")
    with pytest.raises(SystemExit) as caught:
        await run("status")
    assert caught.value.code == 2
