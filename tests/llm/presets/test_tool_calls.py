"""Streamed tool calls get an id and a place of their own, whatever pieces they come in."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley_llm.upstream.toolcalls import MAX_ARGUMENTS, MAX_CALLS, ToolCallRepair

ARGUMENTS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3)


def piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return {"index": index, **more, "function": function}


def put_together(pieces: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return ids and arguments as a client gets them that goes by `index`."""
    calls: dict[int, list[str]] = {}
    for one in pieces:
        call = calls.setdefault(one["index"], ["", ""])
        call[0] = call[0] or one.get("id") or ""
        call[1] += one["function"].get("arguments") or ""
    return [(call[0], call[1]) for call in calls.values()]


def repaired(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    repair = ToolCallRepair()
    return [(repair.fix([one]) or [one])[0] for one in pieces]


@given(
    calls=st.lists(ARGUMENTS, min_size=1, max_size=5), size=st.integers(1, 9), ids=st.booleans(), places=st.booleans()
)
def test_calls_stay_apart(calls: list[dict[str, Any]], size: int, ids: bool, places: bool) -> None:
    pieces = []
    for number, arguments in enumerate(calls):
        text = json.dumps(arguments)
        for at in range(0, len(text), size):
            start = {"name": "f", **({"id": f"c{number}"} if ids else {})} if at == 0 else {}
            pieces.append(piece(number if places else 0, text[at : at + size], **start))
    together = put_together(repaired(pieces))
    assert [json.loads(text) for _, text in together] == calls
    assert len({own for own, _ in together}) == len(calls)
    if ids:
        assert [own for own, _ in together] == [f"c{number}" for number in range(len(calls))]


def test_what_is_right_stays_as_it_is() -> None:
    pieces = [piece(0, "", id="a", name="f"), piece(0, "{}"), piece(1, "{}", id="b", name="g")]
    assert ToolCallRepair().fix(pieces) is None


def test_a_name_that_is_repeated_begins_no_call() -> None:
    pieces = repaired([piece(0, '{"a"', name="f"), piece(0, ":1}", name="f")])
    assert [text for _, text in put_together(pieces)] == ['{"a":1}']


@pytest.mark.parametrize("nonsense", [7, None, {}, {"index": "x"}, {"index": 0, "function": 7}])
def test_nonsense_passes(nonsense: Any) -> None:
    fixed = ToolCallRepair().fix([nonsense])
    assert fixed is None or fixed[0] | {"id": ""} == nonsense | {"id": ""}


def test_memory_is_bounded() -> None:
    repair = ToolCallRepair()
    for number in range(3 * MAX_CALLS):
        repair.fix([piece(number, "", id=f"c{number}", name="f")])
    assert len(repair._by_index) == MAX_CALLS
    long = ToolCallRepair()
    for _ in range(3 * MAX_ARGUMENTS // 1024):
        long.fix([piece(0, "x" * 1024)])
    (call,) = long._by_index.values()
    assert sum(map(len, call.arguments)) <= MAX_ARGUMENTS
