"""Turns a caller's request into the body for one target: model, target's `params`, usage; all else as it came."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from parley_llm.jsontext import dump, join_object, parse_object
from parley_llm.parameters import ParamsSettings

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

    def __bool__(self) -> bool:
        """Tell whether there is anything to change."""
        return bool(self.rename or self.drop or self.default or self.set)

    def apply(self, texts: dict[str, str]) -> list[str]:
        """Change the members in place: rename, drop, default, set. Return which of those there were changed."""
        changed = [name for name, _ in self.rename if name in texts]
        for old, new in self.rename:
            if old in texts:
                texts[new] = texts.pop(old)
        changed += [name for name in self.drop if texts.pop(name, None) is not None]
        changed += [name for name, text in self.set if texts.get(name, text) != text]
        for name, text in self.default:
            texts.setdefault(name, text)
        texts.update(self.set)
        return changed


def shape_body(
    texts: Mapping[str, str], model: str, params: Sequence[Params], *, ask_usage: bool, adapted: list[str]
) -> bytes:
    """Return the body for a target, made afresh from the caller's members; names of changed ones go to `adapted`."""
    members = dict(texts)
    if model:
        members["model"] = dump(model)
    for one in params:
        adapted += one.apply(members)
    if ask_usage:
        options = members.get("stream_options", "null")
        if options == "null":
            members["stream_options"] = '{"include_usage":true}'
        else:
            merged = parse_object(options).texts
            merged["include_usage"] = "true"
            members["stream_options"] = join_object(merged)
    return join_object(members).encode()


def media_urls(messages: list[Any]) -> Iterator[str]:
    """Find what an upstream might fetch: every string with a URL's form in a content part that isn't text."""
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for part in content:
                yield from urls_in(part)


def urls_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Find every string with a URL's form in a decoded JSON value, apart from members that hold text."""
    if isinstance(value, str):
        if _LOCATOR.match(value):
            yield value
    elif isinstance(value, dict) and depth < 8:
        for name, member in value.items():
            if name != "text":
                yield from urls_in(member, depth + 1)
    elif isinstance(value, list) and depth < 8:
        for member in value:
            yield from urls_in(member, depth + 1)


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
