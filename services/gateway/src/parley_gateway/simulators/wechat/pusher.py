"""Plays WeChat towards a webhook: checks the URL, pushes messages, cuts at 5 s, tries three times, shows the outcome.

WeChat documentation, "Passive user reply message": without an answer within 5 s WeChat closes the connection and sends
the same request again, three times in all. An answer that it can't use ends the tries. When nothing came, or nothing
usable, the user sees a line that the account is out of order.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx2

from parley_gateway.simulators.wechat import messages
from parley_gateway.simulators.wechat import webhook as requests
from parley_gateway.simulators.wechat.answers import InvalidAnswerError, MenuLink, links_in, read_answer
from parley_gateway.simulators.wechat.cloud import WeChatCloud
from parley_gateway.simulators.wechat.messages import Fields
from parley_gateway.simulators.wechat.webhook import Push, Webhook

BANNER = "该公众号提供的服务出现故障，请稍后再试"


@dataclass(frozen=True, slots=True)
class Timings:
    """How long WeChat waits, in seconds, and how often it tries."""

    answer_s: float = 5.0
    tries: int = 3

    def scaled(self, factor: float) -> "Timings":
        """Return the timings with the waiting time multiplied."""
        return Timings(self.answer_s * factor, self.tries)


@dataclass(frozen=True, slots=True)
class Step:
    """One request to the webhook and what became of it."""

    name: str
    started_after_s: float
    duration_s: float
    status: int | None
    """None when there was no answer in time."""
    body: bytes = b""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A push with all its tries, and what the user sees of it."""

    message_id: str
    """Empty for events."""
    steps: tuple[Step, ...]
    text: str = ""
    """The passive reply; empty when the push was merely acknowledged, or failed."""
    failed: bool = False
    """The user sees the banner."""

    @property
    def links(self) -> tuple[MenuLink, ...]:
        """What the user can tap in the reply."""
        return links_in(self.text)


class WeChatPusher:
    """Pushes to one webhook, each try on a connection of its own."""

    def __init__(
        self,
        webhook: Webhook,
        cloud: WeChatCloud | None = None,
        *,
        timings: Timings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """With a `cloud` its users see the passive replies, and their messages count for its quotas."""
        self.webhook = webhook
        self._cloud = cloud
        self.timings = timings or Timings()
        self._clock = clock
        self._tls = ssl.create_default_context()  # Once: it takes longer than a request.

    async def check_url(self) -> Step:
        """Check the URL as the console does when it is saved. The step has a problem unless the answer is right."""
        query = requests.url_check(self.webhook, at=self._clock())
        step = await self._request("check", "GET", Push(query, b"", ""), time.monotonic())
        if not step.problem and (step.status != httpx2.codes.OK or step.body != query["echostr"].encode()):
            return Step(step.name, 0.0, step.duration_s, step.status, step.body, "the answer isn't the echostr")
        return step

    async def say(
        self, openid: str, text: str, *, menu_id: str = "", on_step: Callable[[Step], None] | None = None
    ) -> Delivery:
        """Let a user send a text."""
        fields = messages.text(self.webhook.account_id, openid, text, at=self._clock(), menu_id=menu_id)
        return await self.push(fields, on_step=on_step)

    async def tap(self, openid: str, link: MenuLink) -> Delivery:
        """Let a user tap a line."""
        return await self.say(openid, link.sends, menu_id=link.menu_id)

    async def event(self, openid: str, name: str, *, key: str = "") -> Delivery:
        """Let a user cause an event, such as `subscribe`."""
        return await self.push(messages.event(self.webhook.account_id, openid, name, at=self._clock(), key=key))

    async def push(self, fields: Fields, *, on_step: Callable[[Step], None] | None = None) -> Delivery:
        """Deliver any message or event, in the webhook's mode. `on_step` is told of each try as it ends."""
        if self._cloud is not None:
            _count(self._cloud, fields)
        return await self.deliver(
            requests.push(self.webhook, fields, at=self._clock()), str(fields.get("MsgId", "")), on_step=on_step
        )

    async def deliver(
        self, push: Push, message_id: str = "", *, on_step: Callable[[Step], None] | None = None
    ) -> Delivery:
        """Deliver a request until it is answered, three times at most, and show the outcome to the user."""
        began = time.monotonic()
        steps: list[Step] = []
        text, failed = "", True
        for number in range(1, self.timings.tries + 1):
            step = await self._request(f"try {number}", "POST", push, began)
            if step.status is not None:
                try:
                    text = self._usable_text(step, push.openid)
                    failed = False
                except InvalidAnswerError as exc:
                    step = Step(step.name, step.started_after_s, step.duration_s, step.status, step.body, str(exc))
            steps.append(step)
            if on_step:
                on_step(step)
            if step.status is not None:
                break
        self._show(push.openid, text, failed)
        return Delivery(message_id, tuple(steps), text, failed)

    async def _request(self, name: str, method: str, push: Push, began: float) -> Step:
        """Make one try."""
        begun = time.monotonic()
        status: int | None = None
        body, problem = b"", ""
        try:
            async with (
                httpx2.AsyncClient(verify=self._tls, timeout=None, trust_env=False) as client,
                asyncio.timeout(self.timings.answer_s),
            ):
                response = await client.request(
                    method,
                    self.webhook.url,
                    params=dict(push.query),
                    content=push.body,
                    headers={"content-type": "text/xml", "user-agent": "Mozilla/4.0"},
                )
            status, body = response.status_code, response.content
        except TimeoutError:
            problem = f"no answer within {self.timings.answer_s:g} s"
        except httpx2.RequestError as exc:
            problem = f"{type(exc).__name__}: is the gateway running?"
        return Step(name, begun - began, time.monotonic() - begun, status, body, problem)

    def _usable_text(self, step: Step, openid: str) -> str:
        if step.status != httpx2.codes.OK:
            raise InvalidAnswerError(f"HTTP status {step.status}")
        return read_answer(step.body, self.webhook, openid)

    def _show(self, openid: str, text: str, failed: bool) -> None:
        if self._cloud is None:
            return
        if failed:
            self._cloud.show(openid, "banner", BANNER, "passive")
        elif text:
            self._cloud.show(openid, "text", text, "passive")


def _count(cloud: WeChatCloud, fields: Fields) -> None:
    """Give the user's action its allowance of customer-service messages."""
    openid, event = str(fields["FromUserName"]), str(fields.get("Event", "")).lower()
    if event == "unsubscribe":
        cloud.user_left(openid)
    elif event:
        cloud.user_sent(openid, "subscribe" if event == "subscribe" else "menu")
    else:
        cloud.user_sent(openid)
