"""What a received message says: its content, a JSON string whose form depends on the message's type, as plain text.

Forms as in Feishu's documentation, "Content of received messages". Mentions stand in it as placeholders such as
`@_user_1`; the bot's own is removed, others become `@name`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from parley_gateway.platforms.feishu.untrusted_json import parse_json

_PLACEHOLDER = re.compile(r"([ \t]?)(@_user_[0-9]{1,6})([ \t]?)")
_ATTACHMENTS = {"img": "[image]", "media": "[video]"}


class Unreadable(Exception):  # noqa: N818  It is an outcome more than an error, and never leaves this folder.
    """The message holds nothing that the bot can read."""


@dataclass(frozen=True, slots=True)
class Mention:
    """Somebody mentioned in a message."""

    key: str
    """The placeholder in the text."""
    open_id: str
    name: str


class _Node(BaseModel):
    """One piece of a paragraph of a rich text."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    tag: str = ""
    text: str = ""
    href: str = ""
    user_id: str = ""
    user_name: str = ""
    emoji_type: str = ""
    language: str = ""


class _Post(BaseModel):
    """A rich text: paragraphs of nodes."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    title: str = ""
    content: tuple[tuple[_Node, ...], ...] = ()


def read_text(message_type: str, content: str, mentions: Sequence[Mention], bot_open_id: str) -> str:
    """Return the text of a message, stripped; empty when it only mentions the bot.

    Raises
        Unreadable: the type isn't text or post, the content isn't what the type says, or it holds no words at all.
    """
    data = _parsed(content)
    by_key = {mention.key: mention for mention in mentions}
    if message_type == "text":
        text = data.get("text")
        if not isinstance(text, str):
            raise Unreadable("no text")
        return _replace_mentions(text, by_key, bot_open_id).strip()
    if message_type == "post":
        return _post_text(data, by_key, bot_open_id)
    raise Unreadable(message_type)


def _parsed(content: str) -> dict[str, object]:
    try:
        data = parse_json(content)
    except ValueError as exc:
        raise Unreadable("not JSON") from exc
    if not isinstance(data, dict):
        raise Unreadable("not an object")
    return data


def _replace_mentions(text: str, mentions: Mapping[str, Mention], bot_open_id: str) -> str:
    def replace(match: re.Match[str]) -> str:
        mention = mentions.get(match[2])
        if mention is None:
            return match[0]
        if bot_open_id and mention.open_id == bot_open_id:
            return " " if match[1] and match[3] else ""
        return f"{match[1]}@{mention.name or 'user'}{match[3]}"

    return _PLACEHOLDER.sub(replace, text).replace("@_all", "@all")


def _post_text(data: dict[str, object], mentions: Mapping[str, Mention], bot_open_id: str) -> str:
    try:
        post = _Post.model_validate(data)
    except ValidationError as exc:
        raise Unreadable("not a rich text") from exc
    nodes = [node for paragraph in post.content for node in paragraph]
    if (
        any(node.tag in _ATTACHMENTS for node in nodes)
        and not post.title.strip()
        and not any(node.text.strip() for node in nodes)
    ):
        raise Unreadable("only pictures")
    paragraphs = ["".join(_node_text(node, mentions, bot_open_id) for node in paragraph) for paragraph in post.content]
    return "\n".join([post.title, *paragraphs] if post.title else paragraphs).strip()


def _node_text(node: _Node, mentions: Mapping[str, Mention], bot_open_id: str) -> str:
    if node.tag == "at":
        return _at_text(node, mentions, bot_open_id)
    if node.tag == "a" and node.href and node.href != node.text:
        return f"[{node.text or node.href}]({node.href})"
    if node.tag == "code_block":
        return f"```{node.language.lower()}\n{node.text.rstrip()}\n```"
    if node.tag == "hr":
        return "---"
    if node.tag == "emotion":
        return f"[{node.emoji_type}]"
    return _ATTACHMENTS.get(node.tag, node.text)


def _at_text(node: _Node, mentions: Mapping[str, Mention], bot_open_id: str) -> str:
    """Return `@name`, empty for the bot itself; a node names its person by placeholder or by open_id."""
    mention = mentions.get(node.user_id) or Mention(node.user_id, node.user_id, node.user_name)
    if bot_open_id and mention.open_id == bot_open_id:
        return ""
    return "@all" if node.user_id in ("all", "@_all") else f"@{mention.name or node.user_name or 'user'}"
