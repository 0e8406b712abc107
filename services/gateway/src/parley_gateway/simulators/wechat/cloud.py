"""WeChat's side of the conversation: one account, its access tokens, what each user saw, the limits on sending.

Everything happens at once and in memory; `api.py` puts it on HTTP. Limits and codes are those of WeChat's
documentation, "Send customer service message", "Typing status", "Get access token", "Get stable access token" and
"Global error codes".
"""

import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

TEXT_BYTES = 2048
"""Measured, not documented."""
RENEW_EARLY_S = 300.0
OLD_TOKEN_S = 300.0
TYPING_S = 15.0
TYPING_WINDOW_S = 30.0


@dataclass(frozen=True, slots=True)
class SimulatedAccount:
    """The account that the simulator knows."""

    app_id: str = "wx_simulator"
    app_secret: str = field(default="simulator-app-secret", repr=False)
    account_id: str = "gh_simulator"
    verified: bool = True
    """Only verified accounts may send customer-service messages."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many customer-service messages a user's action allows, and for how long."""

    messages: int
    seconds: float


ALLOWANCES = {
    "message": Allowance(5, 48 * 3600.0),
    "menu": Allowance(3, 60.0),
    "subscribe": Allowance(3, 60.0),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """Something on a user's screen."""

    kind: Literal["text", "banner"]
    """`banner`: WeChat's own line that the account is out of order."""
    text: str
    via: Literal["passive", "push"]
    at: float


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API, in the order of arrival."""

    api: str
    errcode: int


@dataclass
class APIError(Exception):
    """An answer with a code other than 0: WeChat gives it HTTP status 200."""

    errcode: int
    errmsg: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One answer to come: an error instead of the call or, after `lost`, a call that is done but not answered."""

    error: APIError | None = None
    lost: bool = False


@dataclass(slots=True)
class _User:
    seen: list[Seen] = field(default_factory=list)
    last_action_at: float = float("-inf")
    allowed: int = 0
    allowed_until: float = float("-inf")
    typing_until: float = float("-inf")


class WeChatCloud:
    """The state of the simulated WeChat. `calls` holds every call of the API."""

    def __init__(
        self,
        account: SimulatedAccount | None = None,
        *,
        token_lifetime_s: float = 7200.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start without users. `clock` gives seconds since 1970."""
        self.account = account or SimulatedAccount()
        self.calls: list[Call] = []
        self._token_lifetime_s = token_lifetime_s
        self._clock = clock
        self._users: dict[str, _User] = defaultdict(_User)
        self._tokens: dict[str, float] = {}
        self._stable_token = ""
        self._plain_token = ""
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)

    # What users do and see.

    def user_sent(self, openid: str, action: str = "message") -> None:
        """Count an action of a user (a key of ALLOWANCES): it renews what may be sent to them."""
        allowance, now = ALLOWANCES[action], self._clock()
        user = self._users[openid]
        user.last_action_at = now
        user.allowed, user.allowed_until = allowance.messages, now + allowance.seconds

    def user_left(self, openid: str) -> None:
        """Let a user stop following: nothing can be sent any more."""
        self._users[openid].allowed_until = float("-inf")

    def show(self, openid: str, kind: Literal["text", "banner"], text: str, via: Literal["passive", "push"]) -> Seen:
        """Put something on a user's screen."""
        seen = Seen(kind, text, via, self._clock())
        self._users[openid].seen.append(seen)
        return seen

    def seen_by(self, openid: str) -> list[Seen]:
        """Return what a user saw, oldest first."""
        return list(self._users[openid].seen) if openid in self._users else []

    def is_typing(self, openid: str) -> bool:
        """Tell whether a user sees that the account is typing."""
        return self._users[openid].typing_until > self._clock()

    def count(self, api: str) -> int:
        """Return how often an API was called."""
        return sum(call.api == api for call in self.calls)

    # What tests arrange.

    def fail_next(self, api: str, errcode: int, times: int = 1, errmsg: str = "arranged") -> None:
        """Answer the next calls of an API (`token`, `stable_token`, `send`, `typing`) with an error."""
        self._faults[api].extend([Fault(error=APIError(errcode, errmsg))] * times)

    def lose_next_answer(self, api: str) -> None:
        """Do the next call of an API, but answer it with an error of the HTTP server."""
        self._faults[api].append(Fault(lost=True))

    def expire_tokens(self) -> None:
        """End every access token, as if its time were over."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)
        self._stable_token = self._plain_token = ""

    # What the API does.

    def begin(self, api: str) -> Fault | None:
        """Return the fault arranged for a call. Raises APIError when it shall fail."""
        fault = self._faults[api].popleft() if self._faults[api] else None
        if fault and fault.error:
            raise fault.error
        return fault

    def issue_token(self, app_id: Any, app_secret: Any) -> tuple[str, int]:
        """Return a new token and its seconds; the one before dies after five minutes."""
        self._check_credentials(app_id, app_secret)
        now = self._clock()
        if self._plain_token:
            self._tokens[self._plain_token] = min(self._tokens[self._plain_token], now + OLD_TOKEN_S)
        self._plain_token = self._new_token(now)
        return self._plain_token, int(self._token_lifetime_s)

    def issue_stable_token(self, app_id: Any, app_secret: Any, *, force_refresh: bool) -> tuple[str, int]:
        """Return the stable token and the seconds it has left; a new one from five minutes before its end.

        `force_refresh` makes a new one and ends the old one at once.
        """
        self._check_credentials(app_id, app_secret)
        now = self._clock()
        if force_refresh and self._stable_token:
            self._tokens[self._stable_token] = 0.0
        if self._tokens.get(self._stable_token, 0.0) - now <= RENEW_EARLY_S:
            self._stable_token = self._new_token(now)
        return self._stable_token, int(self._tokens[self._stable_token] - now)

    def check_token(self, token: str) -> None:
        """Raise APIError unless the token is valid."""
        if not token:
            raise APIError(41001, "access_token missing")
        if token not in self._tokens:
            raise APIError(40001, "invalid credential, access_token is invalid or not latest")
        if self._tokens[token] <= self._clock():
            raise APIError(42001, "access_token expired")

    def send(self, body: Mapping[str, Any]) -> None:
        """Send a customer-service message of type text."""
        self._check_verified()
        openid = self._openid(body)
        if body.get("msgtype") != "text":
            raise APIError(40008, "invalid message type")
        text = body.get("text")
        content = text.get("content") if isinstance(text, dict) else None
        if not isinstance(content, str) or not content:
            raise APIError(44004, "empty content")
        if len(content.encode()) > TEXT_BYTES:
            raise APIError(45002, "content size out of limit")
        user = self._users[openid]
        if user.allowed_until <= self._clock():
            raise APIError(45015, "response out of time limit or subscription is canceled")
        if user.allowed <= 0:
            raise APIError(45047, "out of response count limit")
        user.allowed -= 1
        user.typing_until = float("-inf")
        self.show(openid, "text", content, "push")

    def set_typing(self, body: Mapping[str, Any]) -> None:
        """Show or hide that the account is typing."""
        self._check_verified()
        openid, command = self._openid(body), body.get("command")
        if command not in ("Typing", "CancelTyping"):
            raise APIError(45072, "command field must be in ['Typing', 'CancelTyping']")
        user, now = self._users[openid], self._clock()
        if now - user.last_action_at > TYPING_WINDOW_S:
            raise APIError(45080, "can only send typing after recving user msg")
        if command == "Typing" and user.typing_until > now:
            raise APIError(45081, "you are already typing")
        user.typing_until = now + TYPING_S if command == "Typing" else float("-inf")

    def _check_credentials(self, app_id: Any, app_secret: Any) -> None:
        if not app_id:
            raise APIError(41002, "appid missing")
        if not app_secret:
            raise APIError(41004, "appsecret missing")
        if app_id != self.account.app_id:
            raise APIError(40013, "invalid appid")
        if app_secret != self.account.app_secret:
            raise APIError(40125, "invalid appsecret")

    def _check_verified(self) -> None:
        if not self.account.verified:
            raise APIError(48001, "api unauthorized")

    def _openid(self, body: Mapping[str, Any]) -> str:
        openid = body.get("touser")
        if not isinstance(openid, str) or openid not in self._users:
            raise APIError(40003, "invalid openid")
        return openid

    def _new_token(self, now: float) -> str:
        token = f"{uuid.uuid4().hex}_simulated"
        self._tokens[token] = now + self._token_lifetime_s
        return token
