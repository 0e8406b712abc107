"""The passive reply: text that travels back in the answer to WeChat's own request.

Source: WeChat documentation, "Passive user reply message". Every kind of account may send one.
"""

from collections.abc import Callable

from wechatpy.replies import TextReply

from parley_gateway.platforms.base import RawResponse
from parley_gateway.platforms.wechat.payloads import Parties
from parley_gateway.platforms.wechat.texts import clean

SUCCESS = RawResponse(body=b"success")
"""Acknowledges without showing anything to the user."""


class PassiveReply:
    """The way back to the sender of one request."""

    def __init__(self, parties: Parties, seal: Callable[[str], str], clock: Callable[[], float]) -> None:
        """Take the parties of the request; `seal` encrypts the reply when the request was encrypted."""
        self._parties = parties
        self._seal = seal
        self._clock = clock

    def text(self, content: str) -> RawResponse:
        """Return the HTTP answer that shows the text to the user."""
        reply = TextReply(
            source=self._parties.account,
            target=self._parties.user,
            time=int(self._clock()),
            # wechatpy writes the text into a CDATA section as it is: an end mark inside must be divided.
            content=clean(content).replace("]]>", "]]]]><![CDATA[>"),
        )
        return RawResponse(body=self._seal(reply.render()).encode(), content_type="application/xml; charset=utf-8")
