"""Turns a caller's request into the body for one target: model, target's `params`, usage; all else as it came."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from parley_llm.config import ParamsSettings
from parley_llm.jsontext import dump, join_object, parse_object

_LOCATOR = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9+.-]+):[/\\]")
_UNSAFE = re.compile(r"[\x00-\x20\\@]")


@dataclass(frozen=True, slots=True)
class Params:
    """A target's changes to top-level parameters, values ready as JSON text."""

    rename: tuple[tuple[str, str], ...]
    drop: tuple[str, ...]
    default: tuple[tuple[str, str], ...]
    set: tuple[tuple[str, str], ...]

    @classmethod
    def from_settings(cls, settings: ParamsSettings) -> "Params":
        """Spell the values once."""
        return cls(
            tuple(settings.rename.items()),
            settings.drop,
            tuple((name, dump(value)) for name, value in settings.default.items()),
            tuple((name, dump(value)) for name, value in settings.set.items()),
        )

    def apply(self, texts: dict[str, str]) -> None:
        """Change the members in place: rename, drop, default, set."""
        for old, new in self.rename:
            if old in texts:
                texts[new] = texts.pop(old)
        for name in self.drop:
            texts.pop(name, None)
        for name, text in self.default:
            texts.setdefault(name, text)
        texts.update(self.set)


def shape_body(texts: Mapping[str, str], model: str, params: Params, *, ask_usage: bool) -> bytes:
    """Return the body for a target, made afresh from the caller's members."""
    members = dict(texts)
    members["model"] = dump(model)
    params.apply(members)
    if ask_usage:
        options = members.get("stream_options", "null")
        merged = {} if options == "null" else parse_object(options).texts
        merged["include_usage"] = "true"
        members["stream_options"] = join_object(merged)
    return join_object(members).encode()


def media_urls(messages: list[Any]) -> Iterator[str]:
    """Find what an upstream might fetch: every string with a URL's form in a content part that isn't text."""
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for part in content:
                yield from _urls_in(part, 0)


def _urls_in(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if _LOCATOR.match(value):
            yield value
    elif isinstance(value, dict) and depth < 8:
        for name, member in value.items():
            if name != "text":
                yield from _urls_in(member, depth + 1)
    elif isinstance(value, list) and depth < 8:
        for member in value:
            yield from _urls_in(member, depth + 1)


def is_allowed(url: str, hosts: tuple[str, ...]) -> bool:
    """Tell whether a URL is plain http(s) to a host of the list (`*.example.org` covers subdomains)."""
    if _UNSAFE.search(url.strip()):
        # Parsers disagree about the host of such a URL, and the one that fetches isn't ours.
        return False
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").lower()
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host:
        return False
    return any(host == allowed or (allowed.startswith("*.") and host.endswith(allowed[1:])) for allowed in hosts)
