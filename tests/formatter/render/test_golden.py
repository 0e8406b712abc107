"""Realistic answers and what each dialect makes of them.

`answers/<case>.md` is the model's answer, `<dialect>/<case>.txt|.json` what a reader gets. After a wanted change:
`PARLEY_UPDATE_GOLDEN=1 pytest tests/formatter/render/test_golden.py`, then read the difference critically.
"""

import json
import os
from pathlib import Path

import pytest
from parley_formatter.render.dialect import Part
from parley_formatter.render.registry import DIALECTS

from tests.formatter.render.card_schema import check_card
from tests.formatter.render.formatting import format_reply

_HERE = Path(__file__).parent
_ANSWERS = sorted((_HERE / "answers").glob("*.md"))
_PART = "\n--- next part ---\n"


def _shown(parts: tuple[Part, ...]) -> tuple[str, str]:
    """Return the golden file's content and its suffix."""
    if parts[0].payload_json:
        cards = [{"card": json.loads(part.payload_json), "fallback_text": part.fallback_text} for part in parts]
        return json.dumps(cards, ensure_ascii=False, indent=1) + "\n", "json"
    return _PART.join(part.text for part in parts) + "\n", "txt"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("answer", _ANSWERS, ids=lambda path: path.stem)
def test_answer_looks_as_it_should(answer: Path, dialect: str) -> None:
    locale = "en" if answer.stem.startswith("en_") else "zh-CN"
    reply = format_reply(answer.read_text(encoding="utf-8"), dialect, locale=locale, ai_label=locale == "zh-CN")
    for part in reply.parts:
        if part.payload_json:
            check_card(part.payload_json)
        else:
            assert len(part.text.encode()) <= 1800
            assert len(part.text) <= 600
    shown, suffix = _shown(reply.parts)
    golden = _HERE / dialect / f"{answer.stem}.{suffix}"
    if os.environ.get("PARLEY_UPDATE_GOLDEN"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")


def test_every_golden_file_has_an_answer() -> None:
    stems = {path.stem for path in _ANSWERS}
    assert len(stems) >= 20
    for dialect in DIALECTS:
        assert {path.stem for path in (_HERE / dialect).iterdir()} == stems
