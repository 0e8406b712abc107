"""The JSON of an answer's card: while it is written, with a button to stop; complete, with buttons to rate it.

Feishu documentation, "Card JSON 2.0 structure" and "Button": a click comes back as the event card.action.trigger with
the button's value. Who may do what is checked when it comes back.
"""

import json
from collections.abc import Mapping
from typing import Any

from parley_gateway.messages import InboundMessage
from parley_gateway.platforms.base import Click
from parley_gateway.platforms.feishu.sentences import Sentences

ELEMENT = "answer"
"""The id of the element that shows an unfinished answer."""

MARK = "parley"
"""The key of a button's value that holds the click's name."""

_LARGEST = 30_000
"""Bytes of a card as it is sent, a JSON string in JSON; Feishu takes 30 KB."""


def unfinished_card(words: Sentences, message: InboundMessage) -> str:
    """Return the card of an answer of which nothing is there yet."""
    return _dump({
        "schema": "2.0",
        "config": {
            "streaming_mode": True,
            "update_multi": True,
            "summary": {"content": words.thinking},
            "streaming_config": {
                "print_frequency_ms": {"default": 50},
                "print_step": {"default": 2},
                "print_strategy": "fast",
            },
        },
        "body": {
            "elements": [
                {"tag": "markdown", "element_id": ELEMENT, "content": words.thinking},
                _buttons(words, message, (Click.STOP,)),
            ]
        },
    })  # fmt: skip


def text_card(text: str) -> str:
    """Return a card that shows plain text: nothing in it is read as mark-up."""
    return _dump({
        "schema": "2.0",
        "config": {"update_multi": True, "summary": {"content": " ".join(text[:160].split())[:40]}},
        "body": {"elements": [{"tag": "div", "text": {"tag": "plain_text", "content": text}}]},
    })  # fmt: skip


def with_rating(payload: str, words: Sentences, message: InboundMessage) -> str:
    """Return the card of a complete answer with its buttons; without them when it has no room."""
    card = json.loads(payload)
    card["body"]["elements"].append(_buttons(words, message, (Click.REGENERATE, Click.GOOD, Click.BAD)))
    larger = _dump(card)
    return larger if len(json.dumps(larger, ensure_ascii=False).encode()) <= _LARGEST else payload


def _buttons(words: Sentences, message: InboundMessage, clicks: tuple[Click, ...]) -> dict[str, Any]:
    return {
        "tag": "column_set",
        "flex_mode": "flow",
        "columns": [
            {"tag": "column", "width": "auto", "elements": [_button(words.buttons[click], click, message)]}
            for click in clicks
        ],
    }


def _button(label: str, click: Click, message: InboundMessage) -> dict[str, Any]:
    return {
        "tag": "button",
        "type": "text",
        "size": "small",
        "text": {"tag": "plain_text", "content": label},
        "behaviors": [{"type": "callback", "value": button_value(click, message)}],
    }


def button_value(click: Click, message: InboundMessage) -> Mapping[str, str]:
    """Return what a button says about the question that its card answers."""
    conversation = message.conversation
    value = {
        MARK: click.value,
        "message": message.message_id,
        "chat": conversation.chat,
        "thread": conversation.thread,
        "asker": message.sender,
        "group": "1" if message.group else "",
    }
    return {name: text for name, text in value.items() if text}


def _dump(card: Mapping[str, Any]) -> str:
    return json.dumps(card, ensure_ascii=False, separators=(",", ":"))
