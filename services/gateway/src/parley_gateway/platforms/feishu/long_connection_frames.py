"""The frames of the long connection, in the protobuf form that lark-oapi generates for them.

As lark-oapi's `ws` package reads and writes them: a control frame (method 0) is a ping or its answer, a data frame
(method 1) is an event or one part of it. An event is answered with the frame that carried it, the payload replaced by
`{"code": 200}`, and `data` in base64 where the event wants an answer (a click on a card). Any other code makes Feishu
deliver the event again.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from lark_oapi.ws.const import HEADER_BIZ_RT, HEADER_MESSAGE_ID, HEADER_SEQ, HEADER_SUM, HEADER_TYPE
from lark_oapi.ws.enum import FrameType, MessageType
from lark_oapi.ws.pb.google.protobuf.message import DecodeError
from lark_oapi.ws.pb.pbbp2_pb2 import Frame

from parley_gateway.errors import MalformedRequestError
from parley_gateway.platforms.base import RawResponse

MAX_EVENT_BYTES = 1024 * 1024
MAX_PARTS = 1024
MAX_INCOMPLETE = 64
PARTS_WITHIN_S = 5.0
"""How long the parts of one event may take to arrive; lark-oapi waits as long."""


@dataclass(frozen=True, slots=True)
class EventPart:
    """A data frame: an event, or one part of it."""

    message_id: str
    kind: str
    """`event`; `card` is an older form of callback that nothing sends to cards of schema 2.0."""
    total: int
    index: int
    payload: bytes = field(repr=False)
    frame: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping; it may carry new settings for the connection."""

    payload: bytes


def read_frame(data: bytes) -> EventPart | Pong | None:
    """Return what a frame says, None for a kind of frame that needs no reaction.

    Raises
        MalformedRequestError: it isn't a frame as Feishu sends it.
    """
    frame = Frame()
    try:
        frame.ParseFromString(data)
        headers = {header.key: header.value for header in frame.headers}
        method, payload = frame.method, frame.payload
    except (DecodeError, ValueError) as exc:
        raise MalformedRequestError("not a frame of the long connection") from exc
    if not frame.IsInitialized():
        raise MalformedRequestError("a frame of the long connection lacks something")
    if method == FrameType.CONTROL.value:
        return Pong(payload) if headers.get(HEADER_TYPE) == MessageType.PONG.value else None
    if method != FrameType.DATA.value:
        return None
    total, index = _number(headers.get(HEADER_SUM, "1")), _number(headers.get(HEADER_SEQ, "0"))
    if not 1 <= total <= MAX_PARTS or not 0 <= index < total:
        raise MalformedRequestError("a frame is numbered as no part of an event")
    return EventPart(headers.get(HEADER_MESSAGE_ID, ""), headers.get(HEADER_TYPE, ""), total, index, payload, frame)


def ping_frame(service_id: int) -> bytes:
    """Return a ping."""
    frame = Frame(SeqID=0, LogID=0, service=service_id, method=FrameType.CONTROL.value)
    frame.headers.add(key=HEADER_TYPE, value=MessageType.PING.value)
    return bytes(frame.SerializeToString())


def answer_frame(part: EventPart, response: RawResponse, *, took_s: float) -> bytes:
    """Return the answer to an event, `part` being the last of its parts to arrive."""
    answer: dict[str, Any] = {"code": 200 if response.status == 200 else 500}
    if response.status == 200 and response.body not in (b"", b"{}"):
        answer["data"] = base64.b64encode(response.body).decode()
    frame = Frame()
    frame.CopyFrom(part.frame)
    frame.headers.add(key=HEADER_BIZ_RT, value=str(round(took_s * 1000)))
    frame.payload = json.dumps(answer).encode()
    return bytes(frame.SerializeToString())


class Joining:
    """Joins events that come in several frames. What stays incomplete is dropped: Feishu delivers it again."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._incomplete: dict[str, tuple[float, dict[int, bytes]]] = {}

    def add(self, part: EventPart, *, now: float) -> bytes | None:
        """Take a part; return the whole event once its last part is here.

        Raises
            MalformedRequestError: the parts together are larger than an event may be.
        """
        if part.total == 1:
            return part.payload
        for message_id, (began, _) in list(self._incomplete.items()):
            if now - began > PARTS_WITHIN_S:
                del self._incomplete[message_id]
        if part.message_id not in self._incomplete and len(self._incomplete) >= MAX_INCOMPLETE:
            del self._incomplete[next(iter(self._incomplete))]
        _, parts = self._incomplete.setdefault(part.message_id, (now, {}))
        parts[part.index] = part.payload
        if sum(len(payload) for payload in parts.values()) > MAX_EVENT_BYTES:
            del self._incomplete[part.message_id]
            raise MalformedRequestError("the parts of an event are larger than an event may be")
        if len(parts) < part.total:
            return None
        del self._incomplete[part.message_id]
        return b"".join(parts[index] for index in sorted(parts))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else -1
