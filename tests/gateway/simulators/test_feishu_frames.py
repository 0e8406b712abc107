"""The simulator's own frames against those of lark-oapi, which is what Feishu's clients use."""

import random

import pytest
from lark_oapi.ws.pb.pbbp2_pb2 import Frame
from parley_gateway.simulators.feishu.frames import FrameError, WireFrame, read_frame, write_frame

FRAME = WireFrame(
    service=33554001,
    method=1,
    headers={"type": "event", "message_id": "m-1", "名": "值"},
    payload=b'{"a": "\xe5\x80\xbc"}' + b"x" * 300,
    seq_id=1,
    log_id=(1 << 63) + 5,
    log_id_new="log-1",
    rest={6: b"none", 7: b"json"},
)


def vendors(frame: WireFrame) -> Frame:
    """Return the same frame as lark-oapi builds it."""
    theirs = Frame(SeqID=frame.seq_id, LogID=frame.log_id, service=frame.service, method=frame.method)
    for key, value in frame.headers.items():
        theirs.headers.add(key=key, value=value)
    theirs.payload_encoding, theirs.payload_type = "none", "json"
    theirs.payload, theirs.LogIDNew = frame.payload, frame.log_id_new
    return theirs


def test_lark_oapi_reads_what_the_simulator_writes() -> None:
    theirs = Frame()
    theirs.ParseFromString(write_frame(FRAME))
    assert theirs == vendors(FRAME)


def test_the_simulator_reads_what_lark_oapi_writes() -> None:
    assert read_frame(vendors(FRAME).SerializeToString()) == FRAME


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_required_field_must_be_there(number: int) -> None:
    whole = bytearray(write_frame(WireFrame(1, 1, {}, seq_id=1, log_id=1)))
    at = 2 * (number - 1)
    with pytest.raises(FrameError, match=rf"missing: \[{number}\]"):
        read_frame(bytes(whole[:at] + whole[at + 2 :]))


def test_damaged_frame_is_a_frame_error_or_another_frame() -> None:
    wire = write_frame(FRAME)
    chance = random.Random(7)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(wire[: chance.randint(1, len(wire))])
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            read_frame(bytes(damaged))
        except FrameError:
            refused += 1
    assert refused > 500
