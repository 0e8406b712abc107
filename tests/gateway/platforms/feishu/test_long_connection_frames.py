"""Reading, joining and answering the frames of the long connection."""

import base64
import json

import pytest
from parley_gateway.errors import MalformedRequestError
from parley_gateway.platforms.base import RawResponse
from parley_gateway.platforms.feishu import long_connection_frames
from parley_gateway.platforms.feishu.long_connection_frames import (
    MAX_INCOMPLETE,
    PARTS_WITHIN_S,
    EventPart,
    Joining,
    Pong,
    answer_frame,
    ping_frame,
    read_frame,
)
from parley_gateway.simulators.feishu import frames
from parley_gateway.simulators.feishu.frames import CONTROL, DATA, WireFrame, write_frame


def part(payload: bytes = b"{}", *, message_id: str = "m-1", total: str = "1", index: str = "0") -> EventPart:
    headers = {"type": "event", "message_id": message_id, "sum": total, "seq": index, "trace_id": "t"}
    found = read_frame(write_frame(WireFrame(7, DATA, headers, payload, seq_id=3, log_id=9, log_id_new="l")))
    assert isinstance(found, EventPart)
    return found


def test_ping_is_a_control_frame_of_the_service() -> None:
    assert frames.read_frame(ping_frame(33554001)) == WireFrame(33554001, CONTROL, {"type": "ping"})


def test_pong_hands_its_settings_over() -> None:
    assert read_frame(write_frame(WireFrame(7, CONTROL, {"type": "pong"}, b"{}"))) == Pong(b"{}")
    assert read_frame(write_frame(WireFrame(7, CONTROL, {"type": "ping"}))) is None
    assert read_frame(write_frame(WireFrame(7, 5, {"type": "event"}))) is None


def test_answer_is_the_events_frame_with_another_payload() -> None:
    answer = frames.read_frame(answer_frame(part(), RawResponse(200, b"{}"), took_s=0.0124))
    assert dict(answer.headers) == {
        "type": "event", "message_id": "m-1", "sum": "1", "seq": "0", "trace_id": "t", "biz_rt": "12"
    }  # fmt: skip
    assert (answer.service, answer.method, answer.seq_id, answer.log_id, answer.log_id_new) == (7, DATA, 3, 9, "l")
    assert json.loads(answer.payload) == {"code": 200}


@pytest.mark.parametrize(("status", "code"), [(200, 200), (400, 500), (403, 500), (503, 500)])
def test_only_status_200_is_an_acknowledgement(status: int, code: int) -> None:
    answer = frames.read_frame(answer_frame(part(), RawResponse(status, b"an explanation"), took_s=0))
    assert json.loads(answer.payload)["code"] == code
    assert ("data" in json.loads(answer.payload)) is (status == 200)


def test_body_of_an_answer_travels_in_base64() -> None:
    body = json.dumps({"toast": {"content": "好"}}).encode()
    answer = json.loads(frames.read_frame(answer_frame(part(), RawResponse(200, body), took_s=0)).payload)
    assert base64.b64decode(answer["data"]) == body


@pytest.mark.parametrize("data", [b"", b"\x08", b"nonsense", bytes(range(256))])
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        read_frame(data)


@pytest.mark.parametrize(
    ("total", "index"), [("0", "0"), ("2", "2"), ("x", "0"), ("-1", "0"), ("99999", "0"), ("2", "")]
)
def test_impossible_numbering_is_malformed(total: str, index: str) -> None:
    with pytest.raises(MalformedRequestError, match="numbered"):
        part(total=total, index=index)


def test_parts_are_joined_in_their_order_and_each_event_by_itself() -> None:
    joining = Joining()
    pieces = [
        part(b"one-", total="3", index="0"),
        part(b"two-", total="3", index="1"),
        part(b"3", total="3", index="2"),
    ]
    assert joining.add(pieces[2], now=0) is None
    assert joining.add(part(b"a", message_id="m-2", total="2", index="0"), now=0) is None
    assert joining.add(pieces[0], now=1) is None
    assert joining.add(pieces[0], now=1) is None
    assert joining.add(pieces[1], now=2) == b"one-two-3"
    assert joining.add(part(b"b", message_id="m-2", total="2", index="1"), now=2) == b"ab"
    # Delivered again under the same id, it is a new event; an empty part is a part as well.
    assert joining.add(pieces[0], now=3) is None
    assert joining.add(part(b"", total="2", index="1", message_id="m-3"), now=3) is None
    assert joining.add(part(b"x", total="2", index="0", message_id="m-3"), now=3) == b"x"


def test_parts_that_stay_alone_are_dropped() -> None:
    joining = Joining()
    joining.add(part(b"old", total="2", index="0"), now=0)
    assert joining.add(part(b"new", total="2", index="1"), now=PARTS_WITHIN_S + 0.1) is None
    for number in range(MAX_INCOMPLETE):
        joining.add(part(b"x", message_id=f"flood-{number}", total="2"), now=PARTS_WITHIN_S + 0.2)
    assert joining.add(part(b"late", total="2", index="0"), now=PARTS_WITHIN_S + 0.3) is None


def test_parts_together_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_connection_frames, "MAX_EVENT_BYTES", 10)
    joining = Joining()
    joining.add(part(b"123456", total="3", index="0"), now=0)
    with pytest.raises(MalformedRequestError, match="larger"):
        joining.add(part(b"123456", total="3", index="1"), now=0)
