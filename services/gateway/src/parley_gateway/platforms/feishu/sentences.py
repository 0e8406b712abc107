"""What the Feishu platform itself says: on the card of an answer, and in answer to a click."""

from collections.abc import Mapping
from dataclasses import dataclass

from parley_gateway.platforms.base import Click, ClickOutcome


@dataclass(frozen=True, slots=True)
class Sentences:
    """One language."""

    thinking: str
    """Stands on the card until the first words come."""
    buttons: Mapping[Click, str]
    done: Mapping[Click, str]
    """What a click that worked is answered with."""
    outcomes: Mapping[ClickOutcome, str]
    """What any other click is answered with."""

    def toast(self, click: Click, outcome: ClickOutcome) -> str:
        """Return the answer to a click."""
        return self.done[click] if outcome is ClickOutcome.DONE else self.outcomes[outcome]


_EN = Sentences(
    thinking="Thinking…",
    buttons={Click.STOP: "Stop", Click.REGENERATE: "Again", Click.GOOD: "👍", Click.BAD: "👎"},
    done={
        Click.STOP: "Stopping.",
        Click.REGENERATE: "Asking again.",
        Click.GOOD: "Thank you!",
        Click.BAD: "Thank you for telling.",
    },
    outcomes={
        ClickOutcome.ALREADY: "That was done already.",
        ClickOutcome.NOT_ASKER: "Only the person who asked can do that.",
        ClickOutcome.REFUSED: "You can't do that now.",
        ClickOutcome.GONE: "I don't know that question any more. Please ask it again.",
        ClickOutcome.UNAVAILABLE: "That didn't work. Please try again in a moment.",
    },
)

_ZH = Sentences(
    thinking="正在思考…",
    buttons={Click.STOP: "停止", Click.REGENERATE: "重新生成", Click.GOOD: "👍", Click.BAD: "👎"},
    done={
        Click.STOP: "正在停止。",
        Click.REGENERATE: "正在重新回答。",
        Click.GOOD: "感谢反馈！",
        Click.BAD: "感谢反馈，我们会改进。",
    },
    outcomes={
        ClickOutcome.ALREADY: "已经处理过了。",
        ClickOutcome.NOT_ASKER: "只有提问的人可以这样做。",
        ClickOutcome.REFUSED: "现在不能这样做。",
        ClickOutcome.GONE: "我已不记得这个问题，请重新提问。",
        ClickOutcome.UNAVAILABLE: "操作没有成功，请稍后再试。",
    },
)


def sentences_for(locale: str) -> Sentences:
    """Return the language of a locale: Chinese for `zh…`, English for everything else."""
    return _ZH if locale.lower().startswith("zh") else _EN
