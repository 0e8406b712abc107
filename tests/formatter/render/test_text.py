"""Where text may be cut and how wide it is."""

import pytest
from parley_formatter.render.text import cut_position, grapheme_floor, largest, width


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("abc", 5, 3),
        ("one. two three", 9, 9),
        ("第一句。第二句很长很长", 7, 4),
        ("他说：“好。”然后离开", 7, 7),
        ("line\nnext words", 8, 5),
        ("aaaaaaaaaa", 4, 4),
        ("👨\u200d👩\u200d👧👨\u200d👩\u200d👧", 7, 5),
        ("🇨🇳🇨🇳", 3, 2),
        ("e\u0301e\u0301", 3, 2),
    ],
)
def test_cut_position(text: str, limit: int, expected: int) -> None:
    assert cut_position(text, limit) == expected


def test_cluster_that_does_not_fit_gives_nothing() -> None:
    assert grapheme_floor("👨\u200d👩\u200d👧", 3) == 0


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("中文", 4), ("e\u0301", 1), ("👨\u200d👩\u200d👧", 2), ("❤️", 2), ("ｶﾅ", 2)],
)
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize("answer", [0, 1, 2, 7, 63, 100])
def test_largest_gallops_to_the_answer(answer: int) -> None:
    asked: list[int] = []

    def accepts(count: int) -> bool:
        asked.append(count)
        return count <= answer

    assert largest(100, accepts) == answer
    assert max(asked) <= max(2 * answer + 1, 1)
