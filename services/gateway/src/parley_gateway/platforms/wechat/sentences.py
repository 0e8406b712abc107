"""What the WeChat platform itself says to a user, in Chinese and English, and the words that fetch a kept answer."""

from dataclasses import dataclass

from parley_gateway.platforms.base import PartLimits
from parley_gateway.platforms.wechat.texts import MAX_BYTES, MAX_CHARS, menu_link, quote

LINK_QUOTE = 30
"""Characters of the question that the link to its answer quotes."""
LABEL_QUOTE = 12
"""Characters of the question that stand above a fetched part."""
OLDEST = "0"
"""The menu id of a link to whatever is unread, the oldest first. Every other id of ours is a message id."""


@dataclass(frozen=True, slots=True)
class Sentences:
    """One language. Braces are filled in by the methods below."""

    welcome: str
    unsupported: str
    busy: str
    gone: str
    nothing_new: str
    thinking: str
    show_word: str
    more_word: str
    show_link: str
    part_link: str
    rest_link: str
    others_link: str
    label_format: str

    def link_to(self, answer_id: str, question: str) -> str:
        """Return the tappable line that stands for an answer still in the making."""
        text = self.show_link.format(quote(question, LINK_QUOTE))
        return menu_link(text, self.show_word, answer_id)

    def still_thinking(self, answer_id: str) -> str:
        """Return the answer to a fetch that came too early, with the link again."""
        return self.thinking + "\n" + self.link_to_next(answer_id)

    def link_to_next(self, answer_id: str) -> str:
        """Return the short link to an answer, or to the oldest unread one."""
        return menu_link(self.others_link, self.show_word, answer_id)

    def link_to_part(self, answer_id: str, next_number: int, total: int) -> str:
        """Return the link to the next part of an answer."""
        return menu_link(self.part_link.format(next_number, total), self.more_word, answer_id)

    def link_to_rest(self, answer_id: str) -> str:
        """Return the link from the last message that may be pushed to what is left of the answer."""
        return menu_link(self.rest_link, self.more_word, answer_id)

    def label(self, question: str) -> str:
        """Return the line above a part that tells which question it answers; nothing when that isn't known."""
        return self.label_format.format(quote(question, LABEL_QUOTE)) if question else ""


CHINESE = Sentences(
    welcome="你好，我是 AI 助手。直接发消息就能提问，发送 /help 查看用法。",
    unsupported="我目前只能阅读文字，请用文字告诉我。",
    busy="现在提问的人有点多，请稍后再发一次。",
    gone="这条回答已经不在了，请重新提问。",
    nothing_new="没有新的回答了。",
    thinking="还在思考，请稍等一会儿再看。",
    show_word="查看回答",
    more_word="继续",
    show_link="👉 还在思考，稍后点这里查看“{}”的回答",
    part_link="👉 继续看（{}/{}）",
    rest_link="👉 继续看",
    others_link="👉 点这里查看回答",
    label_format="「{}」",
)

ENGLISH = Sentences(
    welcome="Hello, I am an AI assistant. Just send me your question, or /help to see what I can do.",
    unsupported="I can only read text so far. Please write it to me.",
    busy="Many people are asking right now. Please send that again in a moment.",
    gone="That answer is no longer here. Please ask again.",
    nothing_new="There is nothing new to read.",
    thinking="Still working on it, please look again in a moment.",
    show_word="show answer",
    more_word="continue",
    show_link="👉 Still working. Tap here in a moment for the answer to “{}”",
    part_link="👉 Continue ({}/{})",
    rest_link="👉 Continue",
    others_link="👉 Show the answer",
    label_format="[{}]",
)

FETCH_WORDS = frozenset(
    word.casefold() for language in (CHINESE, ENGLISH) for word in (language.show_word, language.more_word)
)
"""Typed alone, any of these fetches the oldest unread part: people don't always write in the bot's language."""


def sentences_for(locale: str) -> Sentences:
    """Return the language of a locale such as `zh-CN`: Chinese, or English for everybody else."""
    return CHINESE if locale.lower().startswith("zh") else ENGLISH


def part_room(sentences: Sentences) -> PartLimits:
    """Return how large a part may be so that the line above and the longest link below still fit into its message."""
    longest_id = "9" * 20  # MsgId is a 64-bit integer.
    label = sentences.label("\U0001f600" * LABEL_QUOTE) + "\n"
    links = (sentences.link_to_part(longest_id, 99, 99), sentences.link_to_next(longest_id))
    return PartLimits(
        max_bytes=MAX_BYTES - max(len(f"{label}\n\n{link}".encode()) for link in links),
        max_chars=MAX_CHARS - max(len(f"{label}\n\n{link}") for link in links),
    )
