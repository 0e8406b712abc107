"""What is kept of a stream for those who join it: bounded, whole or refused, the same for all."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from parley_llm.calls.replay import OVERHEAD, WINDOW, Memory, Reader, Replay
from parley_llm.upstream.events import StreamEvent

PATIENCE_S = 5.0


def events(*texts: str) -> list[StreamEvent]:
    return [StreamEvent(b'{"t":"%b"}' % text.encode(), {"t": text}, has_content=True) for text in texts]


def nothing_to_give() -> bool:
    return False


async def read_all(reader: Reader, pause: bool = False) -> list[str]:
    """Return all texts up to the end."""
    found: list[str] = []
    while (portion := await reader.next(PATIENCE_S)) is not None:
        found += [event.chunk["t"] for event in portion]
        if pause:
            await asyncio.sleep(0)
    reader.close()
    return found


@given(
    portions=st.lists(st.lists(st.text("abc", max_size=4), min_size=1, max_size=3), max_size=20),
    joins=st.lists(st.integers(0, 20), max_size=4),
)
@settings(max_examples=50, deadline=None)
def test_every_reader_gets_everything_whenever_it_joins(portions: list[list[str]], joins: list[int]) -> None:
    async def play() -> None:
        replay = Replay(Memory(nothing_to_give))
        reading = []
        for number, portion in enumerate(portions):
            joining = [join for join in joins if join == number]
            reading += [asyncio.create_task(read_all(replay.reader(), pause=True)) for _ in joining]
            assert await replay.add(events(*portion))
            await asyncio.sleep(0)
        replay.end()
        reading += [asyncio.create_task(read_all(replay.reader())) for join in joins if join >= len(portions)]
        everything = [text for portion in portions for text in portion]
        assert await asyncio.gather(*reading) == [everything] * len(joins)

    asyncio.run(play())


async def test_a_reader_is_not_kept_waiting_longer_than_its_patience() -> None:
    reader = Replay(Memory(nothing_to_give)).reader()
    assert await reader.next(0.01) == []


async def test_beyond_its_limit_it_keeps_only_what_readers_have_before_them() -> None:
    replay = Replay(Memory(nothing_to_give), limit=WINDOW)
    slow, text = replay.reader(), "x" * 20_000
    adding = asyncio.create_task(add_many(replay, text, 100))
    await asyncio.sleep(0.05)
    assert not adding.done()
    assert not replay.whole
    assert replay._size <= WINDOW + len(text) + 2 * OVERHEAD
    assert [text] * 100 == await read_all(slow)
    assert await adding


async def add_many(replay: Replay, text: str, count: int) -> bool:
    kept = [await replay.add(events(text)) for _ in range(count)]
    replay.end()
    return all(kept)


async def test_what_nobody_can_ever_read_is_refused() -> None:
    replay = Replay(Memory(nothing_to_give), limit=1000)
    assert await replay.add(events("a"))
    reader = replay.reader()
    reader.close()
    assert not await replay.add(events("x" * 2000))


async def test_the_memory_of_all_is_bounded_and_old_answers_make_room() -> None:
    kept: list[Replay] = []

    def give_one() -> bool:
        if not kept:
            return False
        kept.pop(0).free()
        return True

    memory = Memory(give_one, limit=3000)
    for _ in range(5):
        replay = Replay(memory)
        assert await replay.add(events("x" * 700))
        replay.end()
        kept.append(replay)
    assert len(kept) == 3
    kept.clear()
    late = Replay(memory)
    reader = late.reader()
    assert await late.add(events("x" * 700))
    assert not late.whole, "with nothing left to give, it goes to who is there already and is not kept"
    late.end()
    assert await read_all(reader) == ["x" * 700]
