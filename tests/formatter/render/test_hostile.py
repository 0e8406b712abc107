"""Hostile answers cost time in proportion to their size, and bounded memory.

Time is too noisy for a test, so work is counted in Python calls: four times the text may cost at most six times the
work.
"""

import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest
from parley_formatter.render.registry import DIALECTS

from benchmarks.formatter_hostile import CASES
from tests.formatter.render.card_schema import check_card
from tests.formatter.render.formatting import format_reply


def _calls(function: Callable[[], object]) -> int:
    """Count the Python calls a function makes."""
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event == "call":
            count += 1

    assert threading.current_thread() is threading.main_thread()
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", CASES)
def test_work_grows_with_the_size(case: str, dialect: str) -> None:
    # Small parts, so that both sizes are split and the growth is that of splitting, too.
    lowest = DIALECTS[dialect].lowest
    limits = {name: getattr(lowest, name) for name in ("bytes", "chars", "elements", "tables")}
    small, large = (_calls(partial(format_reply, CASES[case](size), dialect, limits=limits)) for size in (800, 3_200))
    # What fits into one part is not split at all: the larger text may pay for that, 50 calls a character.
    assert large <= 6 * small + 50 * 3_200


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "text", ["[" * 5_000_000, ">" * 100_000 + "x", "字" * 300_000], ids=["brackets", "quotes", "han"]
)
def test_huge_answers_become_valid_parts(text: str, dialect: str) -> None:
    reply = format_reply(text, dialect, max_parts=2)
    assert 1 <= len(reply.parts) <= 2
    assert reply.truncated
    for part in reply.parts:
        if part.payload_json:
            check_card(part.payload_json)
        else:
            assert len(part.text.encode()) <= 1800
