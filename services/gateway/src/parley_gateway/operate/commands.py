"""The operator's commands: their arguments, the calls they make, and what they print."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from parley_common.settings import Duration, Loaded
from pydantic import TypeAdapter, ValidationError

from parley_gateway.config import GatewaySettings
from parley_gateway.operate import show
from parley_gateway.operate.client import AdminClient, OperateError

URL_VARIABLE = "PARLEY_GATEWAY_OPS_URL"
TOKEN_VARIABLE = "PARLEY_GATEWAY_ADMIN_TOKEN"  # noqa: S105 - the name of a variable, not a token

LoadSettings = Callable[[], Loaded[GatewaySettings]]
Do = Callable[[argparse.Namespace, AdminClient], Iterable[str]]
"""Does a command and yields the lines to print."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the operator's commands to the command line."""
    status = _command(commands, "status", _status, "show the queue, dead letters, paused bots, models out of reach")
    _add_common(status)
    explain = _command(commands, "explain", _explain, "show what happened to a message, step by step")
    explain.add_argument("id", help="the id in a user's sentence, or the platform's id of the user's message")
    _add_common(explain)
    _add_dead_letters(commands)
    pause = _command(commands, "pause", _pause, "let a bot's questions wait, on all replicas, and tell its users")
    pause.add_argument("bot", help="the bot: NAME, or PLATFORM/NAME")
    pause.add_argument(
        "--notice", default="", metavar="TEXT", help="what users are told (default: the gateway's words)"
    )
    pause.add_argument(
        "--for", type=_duration, dest="for_s", metavar="TIME", help="such as 30m (default: until resumed)"
    )
    _add_common(pause)
    resume = _command(commands, "resume", _resume, "let a paused bot work again")
    resume.add_argument("bot", help="the bot: NAME, or PLATFORM/NAME")
    _add_common(resume)
    expire = _command(commands, "expire", _expire, "end questions that have waited for too long, and tell their users")
    expire.add_argument("--older-than", type=_duration, required=True, metavar="TIME", help="such as 10m")
    expire.add_argument("--bot", default="", help="only this bot's: NAME, or PLATFORM/NAME")
    _add_common(expire)


def run(arguments: argparse.Namespace, load: LoadSettings) -> int:
    """Run one of the commands; return the exit code: 1 when it couldn't be done."""
    try:
        url, token = _address(arguments, load)
        with AdminClient(url, token) as client:
            for line in arguments.do(arguments, client):
                sys.stdout.write(show.printable(line) + "\n")
    except OperateError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def _address(arguments: argparse.Namespace, load: LoadSettings) -> tuple[str, str]:
    """Return where the ops port is and the token: as told, else as this machine's settings say."""
    url = arguments.ops or os.environ.get(URL_VARIABLE, "")
    token = _read_token(arguments.token_file) if arguments.token_file else os.environ.get(TOKEN_VARIABLE, "")
    if url and token:
        return url, token
    settings = load().settings
    if not token and settings.admin_token is not None:
        token = settings.admin_token.get_secret_value()
    if not token:
        raise OperateError(
            f"no admin token: set {TOKEN_VARIABLE}, name a file with --token-file, or set gateway.admin_token here"
        )
    return url or f"http://127.0.0.1:{settings.ops_port}", token


def _read_token(file: Path) -> str:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise OperateError(f"--token-file: {file} can't be read: {exc}") from exc
    if not token:
        raise OperateError(f"--token-file: {file} is empty")
    return token


def _add_dead_letters(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    dead = commands.add_parser("dead-letters", help="list, show, replay, discard messages that failed for good")
    actions = dead.add_subparsers(title="actions", metavar="{list,show,replay,discard}", required=True)
    listing = _command(actions, "list", _list, "list them, newest first")
    listing.add_argument(
        "--limit", type=int, default=100, help="how many to look at (default: %(default)s, most: 1000)"
    )
    listing.add_argument("--reason", default="", help="only those with this reason, such as llm, busy, poison, expired")
    _add_common(listing)
    showing = _command(actions, "show", _show, "show one")
    showing.add_argument("reference")
    showing.add_argument("--text", action="store_true", help="also what the user wrote; the gateway's log tells that")
    _add_common(showing)
    replaying = _command(actions, "replay", _replay, "put them back into their lanes, as if sent now")
    replaying.add_argument("references", nargs="*", metavar="reference")
    replaying.add_argument("--reason", default="", help="instead of references: all with this reason")
    _add_common(replaying)
    discarding = _command(actions, "discard", _discard, "forget them")
    discarding.add_argument("references", nargs="+", metavar="reference")
    _add_common(discarding)


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, do: Do, help_text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(do=do, command="operate")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ops",
        default="",
        metavar="URL",
        help=f"the gateway's ops port (default: ${URL_VARIABLE}, else this machine's)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"holds the admin token (default: ${TOKEN_VARIABLE}, else the settings)",
    )
    parser.add_argument("--json", action="store_true", help="print the gateway's answer as JSON")


def _duration(text: str) -> float:
    try:
        return TypeAdapter(Duration).validate_python(text)
    except ValidationError as exc:
        raise argparse.ArgumentTypeError("must be a duration such as 30s, 10m or 2h") from exc


def _printed(
    arguments: argparse.Namespace, answer: Mapping[str, Any], form: Callable[[Mapping[str, Any]], Iterable[str]]
) -> Iterable[str]:
    return [json.dumps(answer, ensure_ascii=False)] if arguments.json else form(answer)


def _status(arguments: argparse.Namespace, client: AdminClient) -> Iterable[str]:
    return _printed(arguments, client.get("status"), show.status)


def _explain(arguments: argparse.Namespace, client: AdminClient) -> Iterable[str]:
    return _printed(arguments, client.get("explain", id=arguments.id), show.explained)


def _list(arguments: argparse.Namespace, client: AdminClient) -> Iterable[str]:
    answer = client.get("dead-letters", limit=arguments.limit, reason=arguments.reason)
    return _printed(arguments, answer, show.dead_letters)


def _show(arguments: argparse.Namespace, client: AdminClient) -> Iterable[str]:
    answer = client.get("dead-letters", arguments.reference, text=int(arguments.text))
    return _printed(arguments, answer, show.fields)


def _replay(arguments: argparse.Namespace, client: AdminClient) -> Iterable[str]:
    references = list(arguments.references)
    if arguments.reason:
        found = client.get("dead-letters", limit=1000, reason=arguments.reason)["dead_letters"]
        # The oldest first: the order in which they were asked.
        references += [row["reference"] for row in reversed(found) if row["readable"]]
    elif not references:
        raise OperateError("say which: references, or --reason REASON for all with that reason")
    for reference in references:
        answer = client.post("dead-letters", reference, "replay")
        yield from _printed(arguments, answer, _outcome)


def _discard(arguments: argparse.Namespace, client: AdminClient) -> Iterable[str]:
    for reference in arguments.references:
        yield from _printed(arguments, client.post("dead-letters", reference, "discard"), _outcome)


def _outcome(answer: Mapping[str, Any]) -> Iterable[str]:
    return [f"{answer['reference']}  {answer['outcome'].replace('_', ' ')}"]


def _pause(arguments: argparse.Namespace, client: AdminClient) -> Iterable[str]:
    answer = client.post("pause", bot=arguments.bot, notice=arguments.notice, for_s=arguments.for_s)

    def told(pause: Mapping[str, Any]) -> Iterable[str]:
        yield f"{pause['platform']}/{pause['bot']} is paused until {show.moment(pause['until'])}."

    return _printed(arguments, answer, told)


def _resume(arguments: argparse.Namespace, client: AdminClient) -> Iterable[str]:
    answer = client.post("resume", bot=arguments.bot)

    def told(resumed: Mapping[str, Any]) -> Iterable[str]:
        state = "works again" if resumed["outcome"] == "resumed" else "was not paused"
        yield f"{resumed['platform']}/{resumed['bot']} {state}."

    return _printed(arguments, answer, told)


def _expire(arguments: argparse.Namespace, client: AdminClient) -> Iterable[str]:
    answer = client.post("expire", older_than_s=arguments.older_than, bot=arguments.bot)
    return _printed(arguments, answer, lambda done: [f"{done['expired']} questions expired; their users are told."])
