"""The HTTP face of the admin calls: who may call, what is logged, JSON in and out.

Every call needs `Authorization: Bearer <gateway.admin_token>`. Every call, refused or not, is one log line `admin`: who
(the caller's address and the name that the caller gives itself), what, on which object, with what outcome.
"""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping

import structlog
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from parley_gateway.admin.calls import AdminCalls
from parley_gateway.admin.errors import CallRefusedError, bad_request
from parley_gateway.admin.requests import ExpireRequest, PauseRequest, ResumeRequest, parse
from parley_gateway.admin.views import View
from parley_gateway.errors import StoreUnavailableError

MAX_BODY = 64 * 1024
MOST_LISTED = 1000
LONGEST_ID = 300
OPERATOR_HEADER = "x-parley-operator"
"""The name that a caller gives itself; nothing proves it."""

Handler = Callable[[Request], Awaitable[View]]
"""Does a call and returns the answer; says in `request.state.about` which object it is about, for the audit line."""

log = structlog.get_logger("parley.admin")


class Admin:
    """Serves the admin calls."""

    def __init__(self, calls: AdminCalls, token: SecretStr | None) -> None:
        """Without a token every call is refused."""
        self._calls = calls
        self.change(token)
        self.routes = tuple(
            Route(path, self._endpoint(name, handler), methods=[method], name=name)
            for method, path, name, handler in (
                ("GET", "/admin/status", "status", self._status),
                ("GET", "/admin/dead-letters", "dead_letters.list", self._dead_letters),
                ("GET", "/admin/dead-letters/{reference}", "dead_letters.show", self._dead_letter),
                ("POST", "/admin/dead-letters/{reference}/replay", "dead_letters.replay", self._replay),
                ("POST", "/admin/dead-letters/{reference}/discard", "dead_letters.discard", self._discard),
                ("GET", "/admin/explain", "explain", self._explain),
                ("POST", "/admin/pause", "pause", self._pause),
                ("POST", "/admin/resume", "resume", self._resume),
                ("POST", "/admin/expire", "expire", self._expire),
            )
        )

    def change(self, token: SecretStr | None) -> None:
        """Use another token from now on."""
        self._digest = _digest(token.get_secret_value()) if token else None

    def _endpoint(self, name: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            request.state.about = request.path_params.get("reference", "")
            status, outcome = 200, "ok"
            try:
                self._authorize(request.headers)
                answer = await handler(request)
            except CallRefusedError as exc:
                status, outcome, answer = exc.status, exc.outcome, {"error": str(exc)}
            except StoreUnavailableError as exc:
                status, outcome, answer = 503, "unavailable", {"error": f"the store can't be used now: {exc}"}
            except Exception:
                log.exception("admin_call_failed", call=name)
                status, outcome, answer = 500, "error", {"error": "a mistake in the gateway itself: see its log"}
            log.info(
                "admin",
                call=name,
                object=_printable(request.state.about),
                outcome=outcome,
                remote=request.client.host if request.client else "",
                operator=_printable(request.headers.get(OPERATOR_HEADER, "")),
            )
            body = json.dumps(answer, ensure_ascii=False) + "\n"
            headers = {"cache-control": "no-store"}
            if status == 401:
                headers["www-authenticate"] = "Bearer"
            return Response(body, status_code=status, media_type="application/json", headers=headers)

        return endpoint

    def _authorize(self, headers: Mapping[str, str]) -> None:
        """Raise CallRefusedError unless the request carries the token."""
        if self._digest is None:
            raise CallRefusedError(
                403,
                "refused",
                "admin calls are off: set gateway.admin_token (or PARLEY_GATEWAY_ADMIN_TOKEN) and restart or reload",
            )
        scheme, _, token = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(_digest(token.strip()), self._digest)
        if scheme.lower() != "bearer" or not same:
            raise CallRefusedError(401, "refused", "the admin token is missing or wrong: it is gateway.admin_token")

    async def _status(self, _request: Request) -> View:
        return await self._calls.status()

    async def _dead_letters(self, request: Request) -> View:
        reason = request.query_params.get("reason", "")
        request.state.about = reason
        return await self._calls.dead_letters(limit=_limit(request), reason=reason)

    async def _dead_letter(self, request: Request) -> View:
        reference, text = request.path_params["reference"], request.query_params.get("text") == "1"
        if text:
            # That somebody read what a user wrote is part of the audit.
            request.state.about = f"{reference} with text"
        return await self._calls.dead_letter(reference, text=text)

    async def _replay(self, request: Request) -> View:
        return await self._calls.replay(request.path_params["reference"])

    async def _discard(self, request: Request) -> View:
        return await self._calls.discard(request.path_params["reference"])

    async def _explain(self, request: Request) -> View:
        given = request.query_params.get("id", "")
        request.state.about = given
        if not 0 < len(given) <= LONGEST_ID:
            raise bad_request(f"say which message: ?id=…, at most {LONGEST_ID} characters")
        return await self._calls.explain(given)

    async def _pause(self, request: Request) -> View:
        asked = parse(PauseRequest, await _body(request))
        request.state.about = asked.bot
        return await self._calls.pause(asked)

    async def _resume(self, request: Request) -> View:
        asked = parse(ResumeRequest, await _body(request))
        request.state.about = asked.bot
        return await self._calls.resume(asked)

    async def _expire(self, request: Request) -> View:
        asked = parse(ExpireRequest, await _body(request))
        request.state.about = f"{asked.bot or 'all bots'}, older than {asked.older_than_s:g} s"
        return await self._calls.expire(asked)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:128]


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", "100")
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= MOST_LISTED):
        raise bad_request(f"limit: must be a number from 1 to {MOST_LISTED}")
    return int(given)


async def _body(request: Request) -> bytes:
    """Return the body. Raises CallRefusedError when it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise CallRefusedError(413, "bad_request", "the body is too large")
    return body
