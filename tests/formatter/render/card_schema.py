"""The limits of a Feishu card in JSON 2.0, written down as checks (source: Feishu documentation, card JSON 2.0)."""

import json
import re
from typing import Any

_ELEMENT_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,19}")
_ALLOWED = {
    "markdown": {"tag", "content", "element_id", "text_size"},
    "hr": {"tag", "element_id"},
}
_FENCE = re.compile(r"^(`{3,})")
_LINK = re.compile(r"(?<!&#91;)(!?)\[[^\[\]\n]*\]\(([^()\s]*)\)")
_LIVE_TAG = re.compile(r"<(?!br>)/?[a-z_]+", re.IGNORECASE)


def check_card(payload: bytes) -> dict[str, Any]:
    """Check every limit and return the card."""
    assert len(payload) <= 30_000
    card: dict[str, Any] = json.loads(payload)
    assert card["schema"] == "2.0"
    assert set(card) == {"schema", "config", "body"}, "an unknown attribute is an error, and no header by default"
    assert card["config"]["update_multi"] is True
    assert set(card["config"]) <= {"update_multi", "summary"}
    elements = card["body"]["elements"]
    assert 1 <= len(elements) <= 200
    ids = [element["element_id"] for element in elements]
    assert len(set(ids)) == len(ids)
    assert all(_ELEMENT_ID.fullmatch(element_id) for element_id in ids)
    for element in elements:
        assert set(element) <= _ALLOWED[element["tag"]]
        if element["tag"] == "markdown":
            assert element["content"].strip()
            _check_markdown(element["content"])
    assert sum(count_tables(element.get("content", "")) for element in elements) <= 3
    return card


def count_tables(content: str) -> int:
    """Count pipe tables outside code: each run of lines that begin with a pipe is one."""
    lines = outside_code(content)
    return sum(
        line.startswith("| ") and not before.startswith("| ") for before, line in zip(["", *lines], lines, strict=False)
    )


def outside_code(content: str) -> list[str]:
    """Return the lines outside fences; every fence must be closed."""
    lines, fence = [], ""
    for line in content.split("\n"):
        match = _FENCE.match(line)
        if fence:
            fence = "" if line == fence else fence
        elif match:
            fence = match[1]
        else:
            lines.append(line)
    assert not fence, "a code fence is left open"
    return lines


def _check_markdown(content: str) -> None:
    for line in outside_code(content):
        code_free = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line)
        assert not _LIVE_TAG.search(code_free), f"a tag that is not ours: {code_free!r}"
        for bang, url in _LINK.findall(code_free):
            assert not bang, "a picture needs an image key"
            assert url.startswith(("http://", "https://"))
